"""Trained networks as files: read back (:func:`load`), and written for other programs (:func:`export`)."""

from __future__ import annotations

ARCHITECTURE = "architecture.json"
"""What the network is: space, genes, options, images."""

WEIGHTS = "weights.safetensors"
"""Its trained weights."""
