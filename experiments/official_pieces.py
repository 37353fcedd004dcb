"""Read single files of NATS-Bench's official topology release and hold them against the shipped table.

    python experiments/official_pieces.py FOLDER

The folder has `meta.pickle.pbz2` and any of the `NNNNNN.pickle.pbz2`, which need not be complete: each accuracy, number of
parameters and FLOPs that the table has of those architectures is compared. The pickles are read without running them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ednag.benchmarks.arrays import open_table
from ednag.benchmarks.importers.nasbench201 import read_architecture, read_architectures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    _, table = open_table("nasbench201")
    names, genes = read_architectures(folder / "meta.pickle.pbz2")
    if not np.array_equal(genes, table["ops"]):
        raise SystemExit("the official list of architectures is not the shipped table's")
    compared, absent = 0, set()
    for path in sorted(folder.glob("[0-9]*.pickle.pbz2")):
        index = int(path.name[:6])
        for column, value in read_architecture(path, index, names[index]).items():
            if column not in table:
                absent.add(column)
                continue
            if not np.isclose(value, table[column][index], rtol=1e-6):
                raise SystemExit(f"architecture {index}, {column}: {value}, the table has {table[column][index]}")
            compared += 1
    print(f"{compared} values are equal; not in the shipped table: {', '.join(sorted(absent)) or 'none'}")


if __name__ == "__main__":
    main()
