"""EDNAG: evolutionary-diffusion neural architecture generation."""

from ednag.__about__ import __version__

__all__ = ["__version__"]
