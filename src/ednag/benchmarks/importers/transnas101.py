"""The official file of TransNAS-Bench-101 (``transnas-bench_v10141024.pth``), converted into this project's layout.

The file is a saved dictionary: for each space, architecture and task, a list a metric with one value an epoch. It is
read with ``weights_only``, which builds containers and numbers and refuses everything else, so it can't run code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ednag.benchmarks.arrays import Arrays
from ednag.benchmarks.spelling import TASKS
from ednag.core.reading import reading, regular
from ednag.spaces.transnas101 import TransNAS101Macro, TransNAS101Micro
from ednag.spaces.transnas101_cells import OPERATIONS

SPLITS = ("train", "valid", "test")


def read_transnas_micro(path: Path) -> Arrays:
    """Read the cells; see :func:`read_transnas`."""
    return read_transnas(path, "micro")


def read_transnas_macro(path: Path) -> Arrays:
    """Read the skeletons; see :func:`read_transnas`."""
    return read_transnas(path, "macro")


def read_transnas(path: Path, kind: str) -> Arrays:
    """Read one space of the official file (Duan et al. 2021).

    Args:
        path: the official ``.pth`` file.
        kind: ``micro`` or ``macro``.

    Returns:
        the arrays of the ``transnas101_micro`` or ``transnas101_macro`` layout, one row an architecture in official
        order: ``genes`` int8 ``(rows, 6)`` and, for each task of the file, ``task/split/measure`` float32
        ``(rows,)``. A measure is its best over epochs, higher is better; each split has a best epoch of its own.

    Raises:
        FileNotFoundError: if the file is absent.
        ValueError: if it is damaged, contains more than containers and numbers, or is not in the official format.
    """
    content = _load(Path(path))
    try:
        rows: Mapping[str, Any] = content["data"][kind]
        tasks = [task for task in content["task_list"] if task in TASKS]
        names = list(rows)
        if not names or not tasks:
            raise ValueError(f"it lists {len(names)} {kind} architectures and {len(tasks)} known tasks")
        arrays = {"genes": _genes(names, kind)}
        if kind == "micro":
            arrays["op_names"] = np.array(OPERATIONS)
        for task in tasks:
            for split in SPLITS:
                metric = f"{split}_{TASKS[task]}"
                best = [_best(rows[name][task]["metrics"][metric], f"{metric} of {name} on {task}") for name in names]
                arrays[f"{task}/{split}/{TASKS[task]}"] = np.array(best, dtype=np.float32)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} lacks a part of the official format ({type(error).__name__}: {error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return arrays


def _load(path: Path) -> Any:
    """Load the file without running what it may contain; numbers of numpy are allowed beside plain ones."""
    numbers: list[Any] = [np.dtype, *(type(np.dtype(code)) for code in ("f2", "f4", "f8", "i4", "i8"))]
    scalar = np.float64(0).__reduce__()[0]
    numbers += [scalar, (scalar, "numpy.core.multiarray.scalar")]
    if not path.exists():
        raise FileNotFoundError(f"no file {path}; expected the official transnas-bench_v10141024.pth")
    kind = "the official file of TransNAS-Bench-101"
    with reading(path, kind, "fetch it again"), torch.serialization.safe_globals(numbers):
        return torch.load(regular(path), map_location="cpu", weights_only=True)


def _genes(names: Sequence[str], kind: str) -> NDArray[np.int8]:
    """Write architectures as the layout does: operations of a cell, or types of modules with 0 if absent."""
    if kind == "micro":
        genes = torch.stack([TransNAS101Micro().parse(name) for name in names])
    else:
        space = TransNAS101Macro()
        genes = space.modules(torch.stack([space.parse(name) for name in names]))
    return genes.numpy().astype(np.int8)


def _best(values: Sequence[float], what: str) -> float:
    """Largest value over epochs.

    Raises:
        ValueError: if there is none, or one is not a number.
    """
    found = np.array([float(value) for value in values])
    if len(found) == 0 or not np.isfinite(found).all():
        raise ValueError(f"{what} is not a list of numbers, one per epoch: {str(values)[:60]}")
    return float(found.max())
