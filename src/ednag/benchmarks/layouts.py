"""The layouts of tables: how each is recognised, what it must hold, and what reads it.

``data/benchmarks/README.md`` describes every array of every layout.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple


class Layout(NamedTuple):
    """A layout of tables.

    Attributes:
        name: as the catalogue calls it.
        marks: arrays by which it is recognised.
        needed: arrays that it must hold, its columns of measurements apart.
        reader: what takes such a table, in words.
    """

    name: str
    marks: frozenset[str]
    needed: frozenset[str]
    reader: str


def _layout(name: str, marks: str, needed: str, reader: str) -> Layout:
    return Layout(name, frozenset(marks.split()), frozenset(f"{marks} {needed}".split()), reader)


_ROW = "adjacency ops op_names n_vertices params"
_MEASURED = "dynas_ks dynas_e dynas_d"
_TIMED = "help_ks help_e help_d help_r help_devices help_latency_ms"

LAYOUTS = (
    _layout("nasbench201_latency", "latency_ms", "devices", "cost.latency_table"),
    _layout("nasbench101", "module_hash", _ROW, "NASBench101Fitness"),
    _layout("ofa_mobilenetv3", "dynas_top1", _MEASURED, "MeasuredNetworks, or cost.latency_table"),
    _layout("ofa_mobilenetv3", "help_latency_ms", _TIMED, "cost.latency_table"),
    _layout("nasbench301", "kind", "members", "NASBench301Fitness"),
    _layout("zc_nasbench301", "genotypes", "", "NASBench301TableFitness"),
    _layout("nasbench201", "ops", "op_names", "BenchmarkFitness"),
    _layout("transnas101_micro", "genes op_names", "", "BenchmarkFitness"),
    _layout("transnas101_macro", "genes", "", "BenchmarkFitness"),
)
"""Every layout; the first whose marks a table has is the table's."""


def recognise(path: Path, names: Collection[str], wanted: Collection[str]) -> str:
    """Tell a table's layout, and make sure that it is complete and one of those wanted.

    Args:
        path: of the table, for messages.
        names: of its arrays.
        wanted: layouts that the caller can read.

    Returns:
        the name of the layout.

    Raises:
        ValueError: if it is of no layout known here; of another one than those wanted, saying what reads it; or lacks
            arrays of its own layout.
    """
    layout = next((layout for layout in LAYOUTS if layout.marks <= set(names)), None)
    if layout is None:
        listed = "; ".join(f"{layout.name}: {', '.join(sorted(layout.needed))}" for layout in LAYOUTS)
        raise ValueError(
            f"{path} holds {', '.join(sorted(names)[:6]) or 'nothing'}: the layout of no table known here ({listed})"
        )
    if missing := sorted(layout.needed - set(names)):
        raise ValueError(f"{path} is not a complete table of {layout.name}: it lacks {', '.join(missing)}")
    if layout.name not in wanted:
        raise ValueError(
            f"{path} is a table of {layout.name}, expected one of {', '.join(wanted)}; "
            f"a table of {layout.name} is for {layout.reader}"
        )
    return layout.name
