"""Benchmark tables: which are known, where they are, and how they are read."""
