"""EDNAG: evolutionary-diffusion neural architecture generation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ednag.__about__ import __version__

if TYPE_CHECKING:
    from ednag.classify.classifier import load

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import ``load`` when it is first used: importing the package alone imports no torch."""
    if name == "load":
        from ednag.classify.classifier import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
