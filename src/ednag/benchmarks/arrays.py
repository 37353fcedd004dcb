"""Reading ``.npz`` files without running what they may contain."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ednag.benchmarks.locate import SHIPPED, check_shipped, locate
from ednag.core.inputs import InputFile, sha256

Arrays = dict[str, NDArray[Any]]
"""Arrays of an ``.npz`` file, by name."""


def read_arrays(path: Path) -> Arrays:
    """Read an ``.npz`` file without running what it may contain.

    Raises:
        ValueError: if it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error)[:100]  # some reasons quote half the file
        raise ValueError(f"{path} is damaged or not a benchmark table (.npz): {reason}") from None


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
