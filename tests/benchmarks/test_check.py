"""An imported table against the shipped one, cell by cell."""

from pathlib import Path

import numpy as np
import pytest

from ednag.benchmarks.check import compare_with_shipped
from ednag.cli.main import main
from tests.conftest import TABLES


def changed(tmp_path: Path, name: str, **columns: np.ndarray) -> Path:
    arrays = dict(np.load(TABLES / f"{name}.npz"))
    order = np.random.default_rng(0).permutation(len(arrays[next(iter(arrays))]))
    arrays |= {key.replace("__", "/"): value for key, value in columns.items()}
    arrays = {key: value[order] if len(value) == len(order) else value for key, value in arrays.items()}
    path = tmp_path / f"{name}.npz"
    np.savez(path, **arrays)
    return path


def test_differences_are_counted_where_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(TABLES / "nasbench201.npz") as table:
        column = table["cifar10/valid/200"].copy()
    column[[3, 500, 15_000]] += np.array([0.25, -1.5, 1e-6], dtype=np.float32)
    path = changed(tmp_path, "nasbench201", cifar10__valid__200=column, imagenet16_120__valid__12=column)
    found = compare_with_shipped("nasbench201", path)
    assert found.architectures == (15_625, 15_625, 15_625)
    assert (found.cells, found.added, found.missing) == (2, ["imagenet16-120/valid/12"], [])
    (differing,) = (column for column in found.columns if column.differing)
    assert (differing.name, differing.compared, differing.largest) == ("cifar10/valid/200", 15_625, pytest.approx(1.5))
    assert main(["data", "check", "nasbench201", str(path)]) == 2
    out, err = capsys.readouterr()
    assert "only in yours: imagenet16-120/valid/12" in out
    assert f"2 values of {path} differ" in err


@pytest.mark.parametrize("name", ["nasbench201", "transnas101_micro", "transnas101_macro"])
def test_rows_in_another_order_are_the_same_table(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(tmp_path, name)
    monkeypatch.setenv("EDNAG_DATA", str(tmp_path))
    assert main(["data", "check", name]) == 0
    assert "equal in every cell" in capsys.readouterr().out


def test_a_part_of_nasbench101_is_compared_where_both_know_a_cell(tmp_path: Path) -> None:
    arrays = dict(np.load(TABLES / "nasbench101_sample.npz"))
    rows = len(arrays["module_hash"])
    part = {key: value[100:900] if len(value) == rows else value for key, value in arrays.items()}
    part["cifar10/valid/108"] = np.where(np.arange(800) == 7, np.nan, part["cifar10/valid/108"])
    np.savez(tmp_path / "nasbench101.npz", **part)
    found = compare_with_shipped("nasbench101", tmp_path / "nasbench101.npz")
    assert found.architectures == (800, rows, 800)
    assert found.cells == 1


def test_what_can_not_be_compared_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDNAG_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"nasbench201 was not imported: .* is the shipped table"):
        compare_with_shipped("nasbench201")
    with pytest.raises(ValueError, match="cifar10 can't be compared; these can: nasbench101, nasbench201"):
        compare_with_shipped("cifar10")
    with pytest.raises(ValueError, match="is a table of transnas101_macro, not transnas101_micro"):
        compare_with_shipped("transnas101_micro", changed(tmp_path, "transnas101_macro"))
