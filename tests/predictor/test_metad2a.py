"""The MetaD2A layout, on a miniature of it."""

import sys
from pathlib import Path
from types import ModuleType

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from ednag.benchmarks.locate import Presence, locate, presence
from ednag.cli.data import list_data
from ednag.cli.main import main
from ednag.predictor.meta_data import MetaData
from ednag.predictor.meta_predictor import MetaPredictor
from ednag.predictor.metad2a import FEATURES, ROWS, TASKS, import_metad2a
from ednag.predictor.tasks import read_tasks
from ednag.spaces import NASBench201

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


class Graph:
    """Pickles as igraph's graphs do (`Graph.__reduce__` of igraph 0.10: sizes, edges, direction, three attribute tables)."""

    def __init__(self, types: list[int]) -> None:
        self.types = types

    def __reduce__(self) -> tuple:
        edges = [(i, i + 1) for i in range(7)]
        return (type(self), (8, edges, True, {}, {"type": self.types}, {}), {})


@pytest.fixture
def cells() -> torch.Tensor:
    return torch.randint(0, 5, (60, 6), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path: Path, cells: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten tasks of three of eight classes, six cells each."""
    return miniature(tmp_path, cells, monkeypatch, "g")


def miniature(tmp_path: Path, cells: torch.Tensor, monkeypatch: pytest.MonkeyPatch, graphs_name: str) -> Path:
    module = ModuleType("igraph")
    monkeypatch.setattr(Graph, "__module__", "igraph")
    module.Graph = Graph
    monkeypatch.setitem(sys.modules, "igraph", module)
    graphs = [Graph([0, *(code + 2 for code in cell), 1]) for cell in cells.tolist()]
    source = tmp_path / "metad2a"
    source.mkdir()
    accuracy = [20 + 3 * sum(code == 3 for code in cell) for cell in cells.tolist()]
    torch.save({"acc": accuracy, "task": [i // 6 for i in range(60)], graphs_name: graphs}, source / ROWS)
    torch.save([[1 + i % 8, 1 + (i + 1) % 8, 1 + (i + 3) % 8] for i in range(10)], source / TASKS)
    generator = torch.Generator().manual_seed(1)
    torch.save({c: [torch.randn(25, 512, generator=generator) + c] for c in range(8)}, source / FEATURES)
    monkeypatch.delitem(sys.modules, "igraph")  # reading must not need it
    return source


def test_graphs_strings_and_one_hot_rows_are_the_same_meta_data(
    folder: Path, cells: torch.Tensor, tmp_path: Path
) -> None:
    import_metad2a(folder, tmp_path / "g")
    task = [i // 6 for i in range(60)]
    accuracy = [20.0 + 3 * sum(code == 3 for code in cell) for cell in cells.tolist()]
    hot = [torch.eye(7)[[0, *(code + 2 for code in cell), 1]].tolist() for cell in cells.tolist()]
    names = [[OPS[code] for code in cell] for cell in cells.tolist()]
    strings = [f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|" for a, b, c, d, e, f in names]
    for form, value in (("x", hot), ("str", strings)):
        torch.save({"acc": accuracy, "task": task, form: value}, folder / ROWS)
        import_metad2a(folder, tmp_path / form)
    for form in ("g", "x", "str"):
        with np.load(tmp_path / form / "rows.npz") as rows:
            assert np.array_equal(rows["genes"], cells.numpy())
            assert np.array_equal(rows["valid"], np.float32(accuracy))
            assert rows["task"].tolist() == task
            assert str(rows["space"]) == NASBench201.name
    tasks = read_tasks(tmp_path / "g" / "tasks.json")
    assert tasks[9].classes == (1, 2, 4)  # numbered from 0
    assert len({one.sha256 for one in tasks}) == 8  # two tasks have the same classes as two others


@pytest.mark.parametrize("graphs_name", ["g", "graph"])
def test_the_command_line_imports_it(
    tmp_path: Path,
    cells: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    graphs_name: str,
) -> None:
    source = miniature(tmp_path, cells, monkeypatch, graphs_name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDNAG_DATA", str(source))
    assert f"`ednag data import metad2a {source / ROWS}`" in list_data("metad2a")
    for source_argument in (source, source / ROWS):
        assert main(["data", "import", "metad2a", str(source_argument), "--output", "mine"]) == 0
        assert capsys.readouterr().out == "written: mine\n"
        assert len(read_tasks(tmp_path / "mine" / "tasks.json")) == 10
        assert len(list((tmp_path / "mine" / "features").iterdir())) == 8
        with np.load(tmp_path / "mine" / "rows.npz") as rows:
            assert np.array_equal(rows["genes"], cells.numpy())
    assert main(["data", "import", "metad2a", str(source)]) == 0
    assert presence("metad2a") == Presence("present", Path("data/downloads/metad2a/rows.npz"))
    with pytest.raises(ValueError, match="metad2a is meta data, not a benchmark table"):
        locate("metad2a")
    (source / TASKS).unlink()
    assert main(["data", "import", "metad2a", str(source)]) == 2
    assert "no meta_train_task_lst.pt in" in capsys.readouterr().err


def test_a_predictor_trains_on_it(folder: Path, tmp_path: Path) -> None:
    out = import_metad2a(folder, tmp_path / "out")
    data = MetaData(out / "rows.npz", out / "tasks.json", out / "features", "resnet18", val_fraction=0.2)
    train, val = data.part("train"), data.part("val")
    assert (len(train), len(val)) == (8, 2)  # tasks are held out, as there is one source only
    first = train.features[train.chosen[0]]
    assert first.shape == (3, 20, 512)
    label = data.tasks[train.chosen[0]].classes[0]
    assert float(first[0].mean()) == pytest.approx(label, abs=0.2)
    trainer = pl.Trainer(
        max_epochs=1, logger=False, enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
        accelerator="cpu", default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(MetaPredictor(extractor="resnet18", width=8, members=2), data)
    assert -1 <= trainer.callback_metrics["val/spearman"] <= 1


def test_other_files_are_refused(folder: Path, tmp_path: Path) -> None:
    rows = torch.load(folder / TASKS, weights_only=True)
    torch.save({"acc": [1.0], "task": [0]}, folder / ROWS)
    with pytest.raises(ValueError, match="not in the layout of MetaD2A"):
        import_metad2a(folder, tmp_path / "out")
    torch.save({"acc": [1.0], "task": [0], "x": torch.zeros(1, 8, 7).tolist()}, folder / ROWS)
    with pytest.raises(ValueError, match="eight vertices"):
        import_metad2a(folder, tmp_path / "out")
    torch.save(Path("evil"), folder / ROWS)
    with pytest.raises(ValueError, match="damaged or not a file of MetaD2A"):
        import_metad2a(folder, tmp_path / "out")
    (folder / FEATURES).unlink()
    torch.save(rows, folder / ROWS)
    with pytest.raises(FileNotFoundError, match=r"no imgnet32bylabel\.pt"):
        import_metad2a(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
