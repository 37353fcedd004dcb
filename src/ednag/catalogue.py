"""What data is known, where it comes from, and whether it is on this machine. Nothing here downloads anything.

Files are looked for in this order: the path that the user gave; the folder named by the environment variable
``EDNAG_DATA``; ``data/downloads`` below the current folder; ``benchmarks`` and ``images`` below the folder named by
``EDNAG_SHARED`` (by default ``../shared``).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

DOWNLOADS = Path("data/downloads")
"""Where imported tables are put by default, below the current folder; git ignores it."""


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One entry of the catalogue.

    Attributes:
        name: what the user calls it (``nasbench201``).
        kind: ``benchmark`` (a table of measured architectures) or ``images``.
        title: what it is.
        files: names by which it is found in a folder of the search order, best first.
        source: where it comes from, in words.
        home: the public page of the project.
        citation: the paper.
        licence: licence of the data, as its source states it.
        size: of the official release, or of the table in this project's layout.
        checksum: as the source publishes it; a dash where it publishes none.
        shape: of the arrays.
        official: names of the official release, where :func:`ednag.fitness.importers.import_table` can read it.
    """

    name: str
    kind: Literal["benchmark", "images"]
    title: str
    files: tuple[str, ...]
    source: str
    home: str
    citation: str
    licence: str
    size: str
    checksum: str = "-"
    shape: str
    official: tuple[str, ...] = ()


@dataclass(frozen=True)
class Presence:
    """Whether an entry is here.

    Attributes:
        state: ``present``, ``to import`` (only the official release was found) or ``absent``.
        path: where it was found, if it was.
    """

    state: Literal["present", "to import", "absent"]
    path: Path | None = None


CATALOGUE: tuple[DataSource, ...] = (
    DataSource(
        name="nasbench201",
        kind="benchmark",
        title="NAS-Bench-201 (the topology space of NATS-Bench): accuracies after 12 and 200 epochs, FLOPs, parameters",
        files=("nasbench201.npz",),
        source="the project's download links: NATS-tss-v1_0-3ffb9-simple.tar, unpacked; then `ednag data import`",
        home="https://github.com/D-X-Y/NATS-Bench",
        citation="Dong & Yang, ICLR 2020; Dong, Liu, Musial & Gabrys, TPAMI 2021",
        licence="MIT",
        size="0.4 MB as a table",
        checksum="md5 of the official .pickle.pbz2 begins with 3ffb9",
        shape="15,625 cells (6,466 classes) x 6 genes; cifar10, cifar100, imagenet16-120",
        official=("NATS-tss-v1_0-3ffb9-simple",),
    ),
    DataSource(
        name="nasbench201_latency",
        kind="benchmark",
        title="measured latency of the NAS-Bench-201 networks on 27 devices",
        files=("nasbench201_latency.npz",),
        source="the latency files of the HELP repository",
        home="https://github.com/HayeonLee/HELP",
        citation="Lee, Lee, Chong & Hwang, NeurIPS 2021",
        licence="MIT",
        size="1.3 MB as a table",
        shape="15,625 cells x 27 devices, milliseconds",
    ),
    DataSource(
        name="nasbench101",
        kind="benchmark",
        title="NAS-Bench-101: accuracies after 4, 12, 36 and 108 epochs, parameters, training seconds",
        files=("nasbench101.npz", "nasbench101_sample.npz"),
        source="the project's download links: nasbench_full.tfrecord or nasbench_only108.tfrecord",
        home="https://github.com/google-research/nasbench",
        citation="Ying, Klein, Christiansen, Real, Murphy & Hutter, ICML 2019",
        licence="Apache-2.0",
        size="1.95 GB (full), 499 MB (108 epochs only); a sample of 30,001 cells as a table: 1.0 MB",
        checksum="sha256 3d64db8180fb1b0207212f9032205064312b6907a3bbc81eabea10db2f5c7e9c (full), "
        "4c39c3936e36a85269881d659e44e61a245babcb72cb374eacacf75d0e5f4fd1 (108 epochs only)",
        shape="423,624 cells of at most 7 vertices and 9 edges; cifar10",
        official=("nasbench_full.tfrecord", "nasbench_only108.tfrecord"),
    ),
    DataSource(
        name="transnas101_micro",
        kind="benchmark",
        title="TransNAS-Bench-101, cell space: seven tasks",
        files=("transnas101_micro.npz",),
        source="the download page that the project's README names: transnas-bench_v10141024.pth",
        home="https://github.com/yawen-d/TransNASBench",
        citation="Duan, Chen, Xu, Chen, Liang, Zhang & Li, CVPR 2021",
        licence="MIT",
        size="0.2 MB as a table of four tasks",
        shape="4,096 cells x 6 genes",
        official=("transnas-bench_v10141024.pth",),
    ),
    DataSource(
        name="transnas101_macro",
        kind="benchmark",
        title="TransNAS-Bench-101, skeleton space: seven tasks",
        files=("transnas101_macro.npz",),
        source="the download page that the project's README names: transnas-bench_v10141024.pth",
        home="https://github.com/yawen-d/TransNASBench",
        citation="Duan, Chen, Xu, Chen, Liang, Zhang & Li, CVPR 2021",
        licence="MIT",
        size="0.2 MB as a table of four tasks",
        shape="3,256 skeletons x 6 genes (4 to 6 modules)",
        official=("transnas-bench_v10141024.pth",),
    ),
    DataSource(
        name="nasbench301",
        kind="benchmark",
        title="NAS-Bench-301: surrogate models of the DARTS space (ensembles of boosted trees)",
        files=("nasbench301.npz",),
        source="the archives of models that the project's README links to, v1.0 or v0.9; the ensemble xgb_v1.0",
        home="https://github.com/automl/nasbench301",
        citation="Zela, Siems, Zimmer, Lukasik, Keuper & Hutter, ICLR 2022",
        licence="see the project's LICENSE",
        size="see the project's page",
        shape="56 features -> validation accuracy; cifar10",
        official=("xgb_v1.0", "nb_models_1.0", "nb_models", "xgb_v0.9", "nb_models_0.9"),
    ),
    DataSource(
        name="zc_nasbench301",
        kind="benchmark",
        title="NAS-Bench-Suite-Zero, DARTS space: validation accuracy and 13 zero-cost proxies",
        files=("zc_nasbench301.npz",),
        source="the download script of NASLib's branch zerocost: zc_nasbench301.json",
        home="https://github.com/automl/NASLib/tree/zerocost",
        citation="Krishnakumar, White, Zela, Tu, Safari & Hutter, NeurIPS 2022",
        licence="Apache-2.0",
        size="see the project's page",
        shape="genotypes x 22 genes; cifar10 and others",
        official=("zc_nasbench301.json",),
    ),
    DataSource(
        name="ofa_mobilenetv3",
        kind="benchmark",
        title="once-for-all MobileNetV3: measured sub-networks and latencies",
        files=("ofa_mobilenetv3.npz",),
        source="measurements of DyNAS-T (github.com/IntelLabs/DyNAS-T) and HELP; weights from once-for-all",
        home="https://github.com/mit-han-lab/once-for-all",
        citation="Cai, Gan, Wang, Zhang & Han, ICLR 2020",
        licence="Apache-2.0 (DyNAS-T), MIT (HELP); weights: see the project's LICENSE",
        size="0.3 MB as a table",
        shape="2,162 measured sub-networks; 5,000 sub-networks x 12 latencies; ImageNet",
    ),
    DataSource(
        name="cifar10",
        kind="images",
        title="CIFAR-10",
        files=("cifar-10-batches-py", "cifar-10-python.tar.gz", "cifar10-jpeg.tar.xz"),
        source="the author's page, or torchvision's downloader: cifar-10-python.tar.gz",
        home="https://www.cs.toronto.edu/~kriz/cifar.html",
        citation="Krizhevsky, Learning multiple layers of features from tiny images, 2009",
        licence="none stated by its author",
        size="170 MB",
        checksum="md5 c58f30108f718f92721af3b95e74349a",
        shape="50,000 + 10,000 images, 32 x 32 x 3, 10 classes",
    ),
    DataSource(
        name="cifar100",
        kind="images",
        title="CIFAR-100",
        files=("cifar-100-python", "cifar-100-python.tar.gz"),
        source="the author's page, or torchvision's downloader: cifar-100-python.tar.gz",
        home="https://www.cs.toronto.edu/~kriz/cifar.html",
        citation="Krizhevsky, Learning multiple layers of features from tiny images, 2009",
        licence="none stated by its author",
        size="169 MB",
        checksum="md5 eb9058c3a382ffc7106e4002c42a8d85",
        shape="50,000 + 10,000 images, 32 x 32 x 3, 100 classes",
    ),
    DataSource(
        name="digits",
        kind="images",
        title="handwritten digits, the set that ships inside scikit-learn",
        files=("digits.csv.gz",),
        source="installed with scikit-learn",
        home="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        citation="Alpaydin & Kaynak, UCI Machine Learning Repository, 1998",
        licence="CC BY 4.0",
        size="0.1 MB",
        shape="1,797 images, 8 x 8 x 1, 10 classes",
    ),
    DataSource(
        name="fashion_mnist",
        kind="images",
        title="Fashion-MNIST",
        files=("FashionMNIST", "fashion-mnist"),
        source="the project's download links, torchvision's downloader, or Debian's dataset-fashion-mnist",
        home="https://github.com/zalandoresearch/fashion-mnist",
        citation="Xiao, Rasul & Vollgraf, arXiv:1708.07747, 2017",
        licence="MIT",
        size="30 MB",
        checksum="md5 8d4fb7e6c68d591d4c3dfef9ec88bf0d (training images), bef4ecab320f06d8554ea6380940ec79 (test images)",
        shape="60,000 + 10,000 images, 28 x 28 x 1, 10 classes",
    ),
    DataSource(
        name="imagefolder",
        kind="images",
        title="any ImageNet-style folder: train/<class>/*, val/<class>/*, test/<class>/*",
        files=("imagefolder", "imagenet", "tiny-imagenet-50.tar.xz"),
        source="yours: name the folder on the command line",
        home="https://www.image-net.org",
        citation="Deng, Dong, Socher, Li, Li & Fei-Fei, CVPR 2009 (ImageNet)",
        licence="that of your images",
        size="any",
        shape="any number, size and classes",
    ),
)
"""Everything known, tables first."""


def entry(name: str) -> DataSource:
    """Return an entry of the catalogue.

    Raises:
        ValueError: if the name is unknown, listing the known ones.
    """
    for source in CATALOGUE:
        if source.name == name:
            return source
    raise ValueError(f"no data called {name!r}; known: {', '.join(source.name for source in CATALOGUE)}")


def search_folders() -> list[Path]:
    """List the folders that are searched, in order; see the module's description."""
    shared = Path(os.environ.get("EDNAG_SHARED") or "../shared")
    named = os.environ.get("EDNAG_DATA")
    return [*([Path(named)] if named else []), DOWNLOADS, shared / "benchmarks", shared / "images"]


def presence(name: str) -> Presence:
    """Look for an entry in the search folders, and, for ``digits``, inside scikit-learn.

    Raises:
        ValueError: if the name is unknown.
    """
    source = entry(name)
    folders = search_folders()
    if name == "digits" and (package := find_spec("sklearn")) and package.origin:
        folders.append(Path(package.origin).parent / "datasets" / "data")
    for state, names in (("present", source.files), ("to import", source.official)):
        for folder in folders:
            for file in names:
                if (folder / file).exists():
                    return Presence("present" if state == "present" else "to import", folder / file)
    return Presence("absent")


def locate(table: str | Path) -> Path:
    """Find the file of a benchmark table.

    Args:
        table: a path, or a name of the catalogue (``nasbench201``).

    Returns:
        an existing path.

    Raises:
        ValueError: if it is neither a file nor a benchmark of the catalogue.
        FileNotFoundError: if it is not on this machine, saying where it was looked for and how to get it.
    """
    path = Path(table).expanduser()
    if path.is_file():
        return path
    if isinstance(table, Path) or path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(f"no benchmark table at {path}; `ednag data list` shows what is known and present")
    source = entry(table)
    if source.kind != "benchmark":
        raise ValueError(f"{table} is a set of images, not a benchmark table")
    found = presence(table)
    if found.state == "present" and found.path is not None and found.path.is_file():
        return found.path
    if found.state == "to import":
        raise FileNotFoundError(f"{table} has to be imported first: ednag data import {table} {found.path}")
    raise FileNotFoundError(
        f"{table} is absent: {source.files[0]} is in none of {', '.join(map(str, search_folders()))}. "
        f"Get it from {source.home} (`ednag data list` says more), or set EDNAG_DATA to its folder"
    )


def sha256(path: Path) -> str:
    """Hash a file; hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def list_data(name: str | None = None) -> str:
    """Describe the data that EDNAG knows: what it is, where from, licence, size, checksum, and whether it is here.

    Args:
        name: one entry only, such as ``nasbench201``; by default all of them.

    Returns:
        text: a table, then a paragraph on each entry.

    Raises:
        ValueError: if the name is unknown.
    """
    sources = CATALOGUE if name is None else (entry(name),)
    found = {source.name: presence(source.name) for source in sources}
    rows = [("name", "kind", "here", "licence", "shape")]
    rows += [(s.name, s.kind, found[s.name].state, s.licence.split(";")[0], s.shape) for s in sources]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    for source in sources:
        lines += ["", *_paragraph(source, found[source.name])]
    lines += ["", "looked for in: " + ", ".join(map(str, search_folders()))]
    return "\n".join(lines)


def _paragraph(source: DataSource, found: Presence) -> list[str]:
    """Write what the table has no room for."""
    shown = [field.name for field in fields(source) if field.name not in ("name", "kind", "title", "files", "official")]
    lines = [f"{source.name}: {source.title}"]
    lines += [f"  {label:<9} {getattr(source, label)}" for label in shown]
    where = str(found.path) if found.path else f"absent; expected as {' or '.join(source.files)}"
    if found.state == "to import":
        where += f" (official files: `ednag data import {source.name} {found.path}`)"
    elif found.path and found.path.suffix == ".npz":
        where += f" ({found.path.stat().st_size:,} bytes, sha256 {sha256(found.path)})"
    return [*lines, f"  {'where':<9} {where}"]
