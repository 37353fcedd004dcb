"""Importers of official releases: one file for each."""
