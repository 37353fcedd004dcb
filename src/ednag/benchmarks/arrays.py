"""Reading ``.npz`` files without running what they may contain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ednag.benchmarks.locate import SHIPPED, check_shipped, locate
from ednag.core.inputs import InputFile, sha256
from ednag.core.reading import read_npz

Arrays = dict[str, NDArray[Any]]
"""Arrays of an ``.npz`` file, by name."""


def read_arrays(path: Path) -> Arrays:
    """Read an ``.npz`` file without running what it may contain.

    Raises:
        ValueError: if it is damaged.
    """
    return read_npz(path, "a benchmark table (.npz)", "fetch or import it again")


def open_table(table: str | Path) -> tuple[InputFile, Arrays]:
    """Find a benchmark table and read it.

    Args:
        table: a path, or a name of the catalogue.

    Returns:
        the file with its digest, and its arrays.

    Raises:
        FileNotFoundError: if it is absent.
        ValueError: if it is damaged, or one of the shipped tables and not as it was shipped.
    """
    path = locate(table)
    file = InputFile(path, sha256(path))
    if path.parent == SHIPPED:
        check_shipped(path, file.sha256)
    return file, read_arrays(path)
