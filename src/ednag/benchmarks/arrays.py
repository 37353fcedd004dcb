"""Reading ``.npz`` files without running what they may contain."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read an ``.npz`` file without running what it may contain.

    Raises:
        ValueError: if it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged or not an .npz file: {str(error)[:100]}") from None


Arrays = dict[str, NDArray[Any]]
"""Arrays of an ``.npz`` file, by name."""
