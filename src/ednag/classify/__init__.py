"""Trained networks put to use: read back from a run, and image files classified. Nothing here imports a framework."""
