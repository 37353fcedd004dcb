"""Files that ship with the package: configurations, predictors, meta data."""

from __future__ import annotations

from pathlib import Path

from ednag.core.names import did_you_mean

_PACKAGE = Path(__file__).parents[1]


def shipped(folder: str) -> Path:
    """Find a folder that ships with the package.

    Args:
        folder: ``configs``, ``predictors``, ``data/benchmarks`` or ``data/meta``.

    Returns:
        the folder inside the installed package, or else at the top of the checkout.
    """
    installed = _PACKAGE / "shipped" / folder
    return installed if installed.is_dir() else _PACKAGE.parents[1] / folder


CONFIGS = shipped("configs")
"""The folder of the shipped configurations."""


def config_names() -> list[str]:
    """List the shipped configurations by name: their path below ``configs``, without ``.yaml``."""
    return sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml"))


def find_config(name: str | Path) -> Path:
    """Find a configuration: a file of the user's, or else one that ships.

    Args:
        name: a path, or the name of a shipped configuration: ``generate/demo``, also written
            ``configs/generate/demo.yaml`` as in a checkout.

    Raises:
        FileNotFoundError: if there is neither, naming the shipped ones that are near.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    wanted = path.as_posix().removeprefix("configs/").removesuffix(".yaml")
    if wanted in config_names():
        return CONFIGS / f"{wanted}.yaml"
    raise FileNotFoundError(
        f"no configuration {str(name)!r}: neither a file nor a shipped one{did_you_mean(wanted, config_names())}; "
        "`ednag configs` lists those that ship"
    )


def shipped_file(path: Path) -> Path:
    """Find a file by a path that is relative to the current folder, or else by its place among the shipped ones.

    Args:
        path: such as ``data/meta/rows.npz``.

    Returns:
        the shipped file if only that exists, and otherwise the path as it is.
    """
    below = shipped(path.parent.as_posix()) / path.name
    return below if not path.is_absolute() and not path.exists() and below.is_file() else path
