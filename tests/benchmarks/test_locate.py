"""The data catalogue: what it knows, where it looks, what it says."""

import ast
import gzip
import hashlib
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ednag.benchmarks import arrays
from ednag.benchmarks import catalogue as sources
from ednag.benchmarks import locate as catalogue
from ednag.benchmarks.arrays import open_table
from ednag.benchmarks.catalogue import CATALOGUE
from ednag.benchmarks.locate import DIGESTS, entry, locate, presence, search_folders
from ednag.cli.data import list_data
from ednag.core import inputs, shipped
from ednag.core.inputs import sha256
from tests.conftest import TABLES

NAMES = [source.name for source in CATALOGUE]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The three folders of the search order, empty: also that of the shipped tables."""
    out = {"mine": tmp_path / "mine", "downloads": tmp_path / "data/downloads", "shipped": tmp_path / "shipped"}
    for folder in out.values():
        folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDNAG_DATA", str(out["mine"]))
    monkeypatch.setattr(catalogue, "SHIPPED", out["shipped"])
    return {name: folder.resolve() for name, folder in out.items()}


def test_what_is_known():
    assert len(set(NAMES)) == len(NAMES)
    for name in ("nasbench201", "nasbench201_latency", "nasbench101", "transnas101_micro", "transnas101_macro"):
        assert entry(name).kind == "benchmark"
    for name in ("nasbench301", "ofa_mobilenetv3"):
        assert entry(name).kind == "benchmark"
    for name in ("cifar10", "cifar100", "digits", "fashion_mnist", "imagefolder"):
        assert entry(name).kind == "images"
    for source in CATALOGUE:
        assert source.home.startswith("https://")
        assert all((source.files, source.source, source.citation, source.licence, source.size, source.shape))


def test_checksums_are_those_that_torchvision_verifies():
    datasets = pytest.importorskip("torchvision.datasets")
    assert datasets.CIFAR10.tgz_md5 in entry("cifar10").checksum
    assert datasets.CIFAR100.tgz_md5 in entry("cifar100").checksum
    published = dict(datasets.FashionMNIST.resources)
    for part in ("train", "t10k"):
        assert published[f"{part}-images-idx3-ubyte.gz"] in entry("fashion_mnist").checksum


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=f"no data called 'nas'; known: {', '.join(NAMES)}"):
        entry("nas")
    with pytest.raises(ValueError, match="no data called 'nas'"):
        list_data("nas")
    with pytest.raises(ValueError, match="no data called 'nas'"):
        locate("nas")


def test_the_search_order(places):
    assert [folder.resolve() for folder in search_folders()] == list(places.values())
    for name in ("shipped", "downloads", "mine"):  # each is found before those that were there already
        (places[name] / "nasbench201.npz").write_bytes(b"x")
        assert locate("nasbench201").resolve() == places[name] / "nasbench201.npz"
        assert presence("nasbench201").state == "present"
    (places["mine"].parent / "other.npz").write_bytes(b"x")
    assert locate("other.npz") == Path("other.npz")
    assert locate(Path("other.npz")) == Path("other.npz")


def test_the_default_folders(monkeypatch):
    monkeypatch.delenv("EDNAG_DATA", raising=False)
    assert search_folders() == [Path("data/downloads"), TABLES]


def test_an_absent_table_says_where_it_was_looked_for_and_how_to_get_it(places):
    assert presence("nasbench201").state == "absent"
    with pytest.raises(FileNotFoundError, match=r"nasbench201 is absent.*NATS-Bench.*ednag data list.*EDNAG_DATA") as e:
        locate("nasbench201")
    assert str(places["mine"]) in str(e.value)
    for path in ("gone.npz", "folder/gone", Path("gone.npz")):
        with pytest.raises(FileNotFoundError, match=re.escape(f"no benchmark table at {path}")):
            locate(path)
    with pytest.raises(ValueError, match="cifar10 is images, not a benchmark table"):
        locate("cifar10")


def test_official_files_are_offered_for_import(places):
    official = places["mine"] / "NATS-tss-v1_0-3ffb9-simple"
    official.mkdir()
    assert presence("nasbench201").state == "to import"
    command = f"ednag data import nasbench201 {official}"
    with pytest.raises(FileNotFoundError, match=re.escape(command)):
        locate("nasbench201")
    assert command in list_data("nasbench201")
    (places["downloads"] / "nasbench201.npz").write_bytes(b"x")
    assert presence("nasbench201").state == "present"
    assert command not in list_data("nasbench201")


def test_the_list_says_everything_about_everything(places):
    content = b"any bytes"
    (places["shipped"] / "nasbench201_latency.npz").write_bytes(content)
    table = {line.split()[0]: line.split()[2] for line in list_data().split("\n\n")[0].splitlines()[2:]}
    text = "\n\n".join(map(list_data, NAMES))
    assert list(table) == NAMES
    assert table["nasbench201_latency"] == table["digits"] == "present"
    assert table["nasbench201"] == table["cifar100"] == "absent"
    for source in CATALOGUE:
        for part in (source.title, source.source, source.home, source.citation, source.licence, source.size):
            assert part in text
        assert source.checksum in text
        assert source.shape in text
    assert f"({len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()})" in text
    assert "absent; expected as nasbench201.npz" in text
    only = list_data("cifar10")
    assert "CIFAR-10" in only
    assert "NAS-Bench" not in only


def test_digits_are_found_inside_scikit_learn(places):
    path = presence("digits").path
    assert path is not None
    assert path.is_file()
    # what the catalogue says of it, against the file
    rows = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert len(rows) == 1797
    assert len(rows[0].split(",")) == 8 * 8 + 1


def test_the_readme_and_the_catalogue_agree():
    readme = (Path(__file__).parents[2] / "data" / "README.md").read_text(encoding="utf-8")
    for source in CATALOGUE:
        assert f"`{source.name}`" in readme
        assert source.home in readme or source.name == "imagefolder"  # its images are the user's own
        for digest in re.findall(r"\b[0-9a-f]{32,64}\b", source.checksum):
            assert digest in readme


def test_the_card_and_the_digests_are_those_of_the_shipped_tables():
    card = (TABLES / "README.md").read_text(encoding="utf-8")
    files = {name: (size, digest) for name, size, digest in re.findall(r"`(\w+\.npz)` \| ([\d,]+) \| `(\w{64})`", card)}
    listed = dict(reversed(line.split()) for line in (TABLES / DIGESTS).read_text(encoding="utf-8").splitlines())
    paths = sorted(TABLES.glob("*.npz"))
    assert set(files) == set(listed) == {path.name for path in paths}
    for path in paths:
        assert (f"{path.stat().st_size:,}", sha256(path)) == files[path.name]
        assert listed[path.name] == sha256(path)
    assert sum(path.stat().st_size for path in paths) < 5_000_000


def test_an_altered_shipped_table_is_refused(tmp_path, monkeypatch):
    shutil.copytree(TABLES, tmp_path / "shipped")
    monkeypatch.setattr(catalogue, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(arrays, "SHIPPED", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "shipped" / "nasbench201.npz"
    file, content = open_table("nasbench201")
    assert (file.path, file.sha256) == (path, sha256(path))
    content["cifar10/valid/200"][5] += 1
    np.savez_compressed(path, **content)
    with pytest.raises(ValueError, match=r"is not the table that ships with EDNAG: .*install EDNAG again") as caught:
        open_table("nasbench201")
    assert "\n" not in str(caught.value)
    # elsewhere it is the user's own, and read as it is
    path.rename(tmp_path / "mine.npz")
    assert open_table("mine.npz")[1]["cifar10/valid/200"][5] == content["cifar10/valid/200"][5]


def test_the_catalogue_imports_no_package_of_others():
    tree = ast.Module(
        [
            node
            for module in (catalogue, sources, inputs, shipped)
            for node in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body
        ],
        [],
    )
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported
    assert {name.split(".")[0] for name in imported if not name.startswith("ednag.")} <= set(sys.stdlib_module_names)
