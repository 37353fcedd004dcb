"""NAS-Bench-101's official TFRecord, read without TensorFlow."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import struct
from array import array
from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ednag.benchmarks.arrays import Arrays
from ednag.benchmarks.importers.tfrecord import read_fields, read_tfrecord
from ednag.core.storage import atomic_write
from ednag.spaces.nasbench101 import MAX_EDGES, OPERATIONS, VERTICES, graph_hash

log = logging.getLogger(__name__)


def import_nasbench101(source: str | Path, output: str | Path) -> Path:
    """Convert the official ``nasbench_full.tfrecord`` or ``nasbench_only108.tfrecord`` into a table.

    Every checksum and every cell's hash is verified. Accuracies are means over the trainings of a cell (three in the
    official files), in percent; ``train_seconds`` are those of the longest training.

    Args:
        source: the official file.
        output: the ``.npz`` to write, atomically.

    Returns:
        the path of the table.

    Raises:
        FileNotFoundError: if the source is absent.
        ValueError: if it is damaged, truncated or not the official format. Nothing is written then.
    """
    source, output = Path(source), Path(output)
    if not source.is_file():
        raise FileNotFoundError(f"no file {source}; expected nasbench_full.tfrecord or nasbench_only108.tfrecord")
    table = _Trainings()
    try:
        for record in read_tfrecord(source):
            table.add(record)
    except (TypeError, KeyError, IndexError, struct.error, binascii.Error) as error:
        raise ValueError(f"{source} is not the official NAS-Bench-101 format ({error})") from None
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    if not table.cells:
        raise ValueError(f"{source} holds no record")
    arrays = table.arrays()
    atomic_write(output, lambda stream: np.savez_compressed(stream, **arrays))  # type: ignore[arg-type]
    log.info("wrote %s: %d cells, %d trainings", output, len(table.cells), len(table.row))
    return output


@dataclass
class _Trainings:
    """What the records say, one number a training, cells once.

    Attributes:
        cells: adjacency, operations and parameters of each cell, by its hash, in order of appearance.
        row: of each training, which cell was trained.
        columns: of each training: epochs, validation accuracy, test accuracy (0..1), seconds.
    """

    cells: dict[str, tuple[NDArray[np.uint8], list[int], int]] = field(default_factory=dict)
    number: dict[str, int] = field(default_factory=dict)
    row: array[int] = field(default_factory=lambda: array("q"))
    columns: tuple[array[float], ...] = field(default_factory=lambda: tuple(array("d") for _ in range(4)))

    def add(self, record: bytes) -> None:
        """Read one record: the JSON list hash, epochs, adjacency, operations, metrics (a protobuf in base64)."""
        name, epochs, bits, labels, encoded = json.loads(record)
        metrics = list(read_fields(base64.b64decode(encoded, validate=True)))
        evaluations = [dict(read_fields(value)) for number, value in metrics if number == 1]
        if len(evaluations) != 3:
            raise ValueError(f"a training of {name} has {len(evaluations)} evaluations, expected 3 (start, half, end)")
        if name not in self.cells:
            self.number[name] = len(self.cells)
            self.cells[name] = (*_official_cell(name, bits, labels), int(dict(metrics)[2]))
        final = evaluations[-1]  # absent fields are zero
        values = (epochs, *(_double(final.get(number, bytes(8))) for number in (4, 5, 2)))
        if not all(0 <= value <= 1 for value in values[1:3]):
            raise ValueError(f"an accuracy of {name} is outside 0..1: {values[1:3]}")
        self.row.append(self.number[name])
        for column, value in zip(self.columns, values, strict=True):
            column.append(value)
        if len(self.row) % 100_000 == 0:
            log.info("read %d trainings of %d cells", len(self.row), len(self.cells))

    def arrays(self) -> Arrays:
        """Average over trainings, in the layout of the table."""
        count = len(self.cells)
        row = np.array(self.row)
        epochs, valid, test, seconds = (np.array(column) for column in self.columns)
        matrices = np.stack([matrix for matrix, _, _ in self.cells.values()])
        ops = [codes + [-1] * (VERTICES - 2 - len(codes)) for _, codes, _ in self.cells.values()]
        out: Arrays = {
            "adjacency": np.packbits(matrices.reshape(count, -1), axis=1),
            "ops": np.array(ops, dtype=np.int8),
            "op_names": np.array(OPERATIONS),
            "n_vertices": np.array([len(codes) + 2 for _, codes, _ in self.cells.values()], dtype=np.int8),
            "module_hash": np.frombuffer(bytes.fromhex("".join(self.cells)), np.uint8).reshape(count, 16),
            "params": np.array([params for _, _, params in self.cells.values()], dtype=np.int32),
        }
        for length in np.unique(epochs):
            these = epochs == length
            with np.errstate(invalid="ignore"):  # NaN if a cell was not trained that long
                out[f"cifar10/valid/{int(length)}"] = _means(row[these], 100 * valid[these], count)
                out[f"cifar10/test/{int(length)}"] = _means(row[these], 100 * test[these], count)
                out["train_seconds"] = _means(row[these], seconds[these], count)
        return out


def _means(row: NDArray[np.int64], values: NDArray[np.float64], count: int) -> NDArray[np.float32]:
    """Average the values of each row, float32 ``(count,)``; NaN if a row has none."""
    total, number = np.bincount(row, values, count), np.bincount(row, minlength=count)
    return (total / number).astype(np.float32)


def _official_cell(name: str, bits: str, labels: str) -> tuple[NDArray[np.uint8], list[int]]:
    """Read a cell, verify its hash, and return its matrix, padded to 7 x 7, and its operations."""
    names = labels.split(",")
    n = isqrt(len(bits))
    codes = [OPERATIONS.index(label) for label in names[1:-1]]
    if n * n != len(bits) or n != len(names) or not 2 <= n <= VERTICES or bits.count("1") > MAX_EDGES:
        raise ValueError(f"cell {name} is not of this space: {bits} {labels}")
    square = np.array([int(bit) for bit in bits], dtype=np.uint8).reshape(n, n)
    if graph_hash(square.tolist(), [-1, *codes, -2]) != name:
        raise ValueError(f"cell {bits} {labels} has another hash than its record says ({name})")
    return np.pad(square, (0, VERTICES - n)), codes


def _double(raw: bytes) -> float:
    return float(struct.unpack("<d", raw)[0])
