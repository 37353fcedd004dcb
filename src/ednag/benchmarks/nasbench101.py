"""Tables of NAS-Bench-101, which may hold a part of the space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ednag.benchmarks.arrays import Arrays, open_table
from ednag.benchmarks.layouts import recognise
from ednag.benchmarks.spelling import rename_columns
from ednag.core.inputs import InputFile
from ednag.spaces.nasbench101 import OPERATIONS, VERTICES, graph_hash


def load_nasbench101(table: str | Path) -> tuple[InputFile, Tensor, dict[str, Tensor]]:
    """Read a table of NAS-Bench-101 cells: the whole benchmark or a part.

    Args:
        table: path of an ``.npz`` file as :func:`import_nasbench101` writes it, or a name of the catalogue.

    Returns:
        the file; identities of the cells, int64 ``(rows,)``, ascending; and float64 ``(rows,)`` by name: ``cifar10/valid/108``
        and the like in percent, ``params``, ``train_seconds``.

    Raises:
        FileNotFoundError: if it is absent.
        ValueError: if it is damaged or not such a table.
    """
    file, arrays = open_table(table)
    path = file.path
    recognise(path, arrays, ["nasbench101"])
    arrays = rename_columns(arrays)
    rows = len(arrays["module_hash"])
    metrics = {name: values for name, values in arrays.items() if "/" in name or name in ("params", "train_seconds")}
    wrong = [name for name, values in metrics.items() if values.shape != (rows,)]
    if rows == 0 or wrong or arrays["module_hash"].shape != (rows, 16) or arrays["module_hash"].dtype != np.uint8:
        raise ValueError(f"{path} is not a complete table of nasbench101: {', '.join(wrong) or 'module_hash'} is wrong")
    for row in {0, rows // 2, rows - 1}:
        if _row_hash(arrays, row) != arrays["module_hash"][row].tobytes().hex():
            raise ValueError(f"{path}: row {row} has a module_hash of another cell; expected the NAS-Bench-101 hash")
    keys = (arrays["module_hash"][:, :8].copy().view(">u8")[:, 0] >> np.uint64(1)).astype(np.int64)
    order = np.argsort(keys)
    if (np.diff(keys[order]) == 0).any():
        raise ValueError(f"{path} lists a cell twice")
    ordered = {name: torch.from_numpy(values[order].astype(np.float64)) for name, values in metrics.items()}
    return file, torch.from_numpy(keys[order]), ordered


def _row_hash(arrays: Arrays, row: int) -> str:
    """Hash of the cell of a table's row."""
    n = int(arrays["n_vertices"][row])
    matrix = np.unpackbits(arrays["adjacency"][row])[: VERTICES**2].reshape(VERTICES, VERTICES)[:n, :n]
    names = [str(name) for name in arrays["op_names"]]
    interior = [OPERATIONS.index(names[op]) for op in arrays["ops"][row, : n - 2] if names[op] in OPERATIONS]
    return graph_hash(matrix.tolist(), [-1, *interior, -2]) if len(interior) == n - 2 else ""
