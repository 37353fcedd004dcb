"""EDNAG: evolutionary-diffusion neural architecture generation."""

from ednag.__about__ import __version__
from ednag.retraining.export import load

__all__ = ["__version__", "load"]
