"""Official files of benchmarks and predictors, converted into what EDNAG reads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ednag.benchmarks.arrays import Arrays
from ednag.benchmarks.importers import nasbench301 as nasbench301_importer
from ednag.benchmarks.importers.nasbench101 import import_nasbench101
from ednag.benchmarks.importers.nasbench201 import read_nats_topology
from ednag.benchmarks.importers.transnas101 import read_transnas_macro, read_transnas_micro
from ednag.benchmarks.locate import DOWNLOADS, entry
from ednag.core.storage import atomic_write
from ednag.predictor.metad2a import import_metad2a
from ednag.spaces.nasbench201 import NASBench201

log = logging.getLogger(__name__)


def import_table(name: str, source: Path, output: Path | None = None) -> Path:
    """Convert official files into what EDNAG reads: those of a benchmark into a table, others into a folder.

    Args:
        name: as ``ednag data list`` calls it: ``nasbench101``, ``nasbench201``, ``nasbench301``, ``zc_nasbench301``,
            ``transnas101_micro`` or ``transnas101_macro``; or ``metad2a``, meta data of a predictor.
        source: the official files: for nasbench201 the unpacked folder NATS-tss-v1_0-3ffb9-simple, for nasbench101
            a file nasbench_full.tfrecord or nasbench_only108.tfrecord, for nasbench301 the folder of an ensemble
            (xgb_v1.0), for zc_nasbench301 zc_nasbench301.json, for transnas101 transnas-bench_v10141024.pth, for metad2a
            the folder of meta_train_tasks_predictor.pt.
        output: where to write the table (a folder for metad2a); by default data/downloads/NAME.npz (data/downloads/metad2a)
            below the current folder.

    Returns:
        the path of what was written.

    Raises:
        FileNotFoundError: if a file of the source is absent.
        ValueError: if the name has no importer, or the source is damaged, incomplete or not the official
            format. Nothing is written then.
    """
    if name in WHOLE:
        return WHOLE[name](source, output or DOWNLOADS / Path(entry(name).files[0]).parts[0])
    if name not in IMPORTERS:
        entry(name)  # an unknown name has its own message
        raise ValueError(f"{name} has no importer; these have one: {', '.join([*WHOLE, *IMPORTERS])}")
    read, size = IMPORTERS[name]
    arrays = read(Path(source).expanduser())
    rows = len(arrays["ops"] if "ops" in arrays else arrays["genes"])
    if rows != size:
        raise ValueError(f"{source} lists {rows} architectures, {name} has {size}: it is not the complete benchmark")
    path = Path(output).expanduser() if output else DOWNLOADS / f"{name}.npz"
    atomic_write(path, lambda stream: np.savez_compressed(stream, **arrays))  # type: ignore[arg-type]
    log.info("wrote %s: %d architectures, %s", path, rows, ", ".join(key for key in arrays if "/" in key))
    return path


IMPORTERS: dict[str, tuple[Callable[[Path], Arrays], int]] = {
    "nasbench201": (read_nats_topology, NASBench201().size),
    "transnas101_micro": (read_transnas_micro, 4096),
    "transnas101_macro": (read_transnas_macro, 3256),
}
"""For each benchmark: its reader, and how many architectures a complete source has."""


WHOLE: dict[str, Callable[[str | Path, str | Path], Path]] = {
    "nasbench101": import_nasbench101,
    "metad2a": import_metad2a,
    **nasbench301_importer.IMPORTS,
}
"""Importers that read, check and write by themselves."""
