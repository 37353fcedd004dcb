"""Make the tables of data/benchmarks, and prove that nothing in them differs from their sources.

    python experiments/ship_tables.py FOLDER [FOLDER ...]

The folders hold the complete tables as ``.npz`` files (``ednag data import`` writes such files from official releases);
of a table that several folders hold, the first counts. Every array is stored as it is in its source, without loss; the
script reads back what it wrote, compares it bit by bit, reports which arrays of the other folders differ, and writes
SHA256SUMS.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ednag.benchmarks.arrays import read_arrays
from ednag.benchmarks.layouts import LAYOUTS, recognise
from ednag.benchmarks.locate import DIGESTS
from ednag.core.inputs import sha256
from ednag.core.storage import atomic_write

TABLES = (
    "nasbench201",
    "nasbench201_latency",
    "nasbench101_sample",
    "transnas101_micro",
    "transnas101_macro",
    "ofa_mobilenetv3",
)
LIMIT = 5_000_000
"""Bytes that all tables may take together."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, default=Path("data/benchmarks"))
    return parser.parse_args()


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays have the same type, shape and bits."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def make(name: str, folders: list[Path], output: Path) -> None:
    """Write one table, read it back, and compare it with every source."""
    sources = [folder / f"{name}.npz" for folder in folders if (folder / f"{name}.npz").is_file()]
    if not sources:
        raise SystemExit(f"{name}.npz is in none of {', '.join(map(str, folders))}")
    arrays = read_arrays(sources[0])
    recognise(sources[0], arrays, [layout.name for layout in LAYOUTS])
    path = output / f"{name}.npz"
    atomic_write(path, lambda stream: np.savez_compressed(stream, **arrays))
    written = read_arrays(path)
    if list(written) != list(arrays) or not all(same(written[key], arrays[key]) for key in arrays):
        raise SystemExit(f"{path} is not what was read from {sources[0]}")
    print(f"{path}: {path.stat().st_size:,} bytes, {len(arrays)} arrays, bit by bit those of {sources[0]}")
    for other in map(read_arrays, sources[1:]):
        differing = [key for key in other if key not in arrays or not same(arrays[key], other[key])]
        added = [key for key in arrays if key not in other]
        print(
            f"  another source has {len(other)} arrays; differing: {differing or 'none'}; not there: {added or 'none'}"
        )


def main() -> None:
    options = arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        make(name, options.folders, options.output)
    files = [options.output / f"{name}.npz" for name in TABLES]
    total = sum(file.stat().st_size for file in files)
    if total > LIMIT:
        raise SystemExit(f"the tables take {total:,} bytes, the limit is {LIMIT:,}")
    lines = "".join(f"{sha256(file)}  {file.name}\n" for file in files)
    atomic_write(options.output / DIGESTS, lambda stream: stream.write(lines.encode()))
    print(f"{total:,} bytes in all")


if __name__ == "__main__":
    main()
