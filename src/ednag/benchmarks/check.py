"""Comparing an imported benchmark table with the one that ships, cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ednag.benchmarks.dense import LOADERS, load_table
from ednag.benchmarks.locate import SHIPPED, entry, locate
from ednag.benchmarks.nasbench101 import load_nasbench101

ROUNDING = 1e-6
"""Relative difference up to which two values count as equal: tables hold 32-bit numbers."""


class Column(NamedTuple):
    """What the comparison of a column found.

    Attributes:
        name: of the column.
        compared: architectures that both tables have.
        differing: how many of them have another value.
        largest: largest absolute difference.
    """

    name: str
    compared: int
    differing: int
    largest: float


class Difference(NamedTuple):
    """What the comparison of two tables found.

    Attributes:
        imported: the user's table.
        shipped: the table that ships.
        architectures: in the user's table, in the shipped one, in both.
        columns: those of both.
        added: columns of the user's table only.
        missing: columns of the shipped table only.
    """

    imported: Path
    shipped: Path
    architectures: tuple[int, int, int]
    columns: list[Column]
    added: list[str]
    missing: list[str]

    @property
    def cells(self) -> int:
        """Number of values that differ."""
        return sum(column.differing for column in self.columns)


def compare_with_shipped(name: str, imported: Path | None = None) -> Difference:
    """Compare a table with the shipped one of the same benchmark.

    Args:
        name: ``nasbench101``, ``nasbench201``, ``transnas101_micro`` or ``transnas101_macro``.
        imported: the table; the one that ``name`` stands for on this machine if omitted.

    Raises:
        FileNotFoundError: if there is no other table than the shipped one.
        ValueError: if no table of that name ships, or one of the two is not such a table.
    """
    if name not in COMPARED:
        raise ValueError(f"{entry(name).name} can't be compared; these can: {', '.join(COMPARED)}")
    shipped = next(SHIPPED / file for file in entry(name).files if (SHIPPED / file).exists())
    path = locate(name) if imported is None else locate(imported)
    if path == shipped:
        raise FileNotFoundError(f"{name} was not imported: {path} is the shipped table; `ednag data list {name}`")
    keys, ours = _rows(name, path)
    shipped_keys, theirs = _rows(name, shipped)
    place = torch.searchsorted(shipped_keys, keys).clamp(max=len(shipped_keys) - 1)
    both = shipped_keys[place] == keys
    columns = [_compare(column, ours[column][both], theirs[column][place[both]]) for column in ours if column in theirs]
    counts = len(keys), len(shipped_keys), int(both.sum())
    return Difference(path, shipped, counts, columns, sorted(ours.keys() - theirs), sorted(theirs.keys() - ours))


COMPARED = ("nasbench101", *LOADERS)
"""What can be compared: the benchmarks that have an importer and a table that ships."""


def _rows(name: str, path: Path) -> tuple[Tensor, dict[str, Tensor]]:
    """Keys of the architectures of a table, int64 ``(rows,)``, ascending, and its columns ``(rows,)``."""
    if name == "nasbench101":
        return load_nasbench101(path)[1:]
    table = load_table(path)
    if table.space != name:
        raise ValueError(f"{path} is a table of {table.space}, not {name}")
    known = (table.row >= 0).nonzero().flatten()
    return known, {column: values[known] for column, values in table.metrics.items()}


def _compare(name: str, ours: Tensor, theirs: Tensor) -> Column:
    """Compare two columns ``(n,)``; unknown values (NaN) are equal to each other only."""
    apart = (ours - theirs).abs()
    equal = (apart <= ROUNDING * theirs.abs()) | (ours.isnan() & theirs.isnan())
    return Column(name, len(ours), int((~equal).sum()), float(apart.nan_to_num(0.0).max()) if len(ours) else 0.0)
