"""Files that ship with the package: configurations, predictors, benchmark tables."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def shipped(folder: str) -> Path:
    """Find a folder that ships with the package.

    Args:
        folder: ``configs``, ``predictors`` or ``data/benchmarks``.

    Returns:
        the folder inside the installed package, or else at the top of the checkout.
    """
    installed = _PACKAGE / folder
    return (
        installed if installed.is_dir() and not (installed / "__init__.py").exists() else _PACKAGE.parents[1] / folder
    )
