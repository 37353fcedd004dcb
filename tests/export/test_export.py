import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ednag.classify.classifier import load
from ednag.data.datasets import Digits
from ednag.export import formats as module
from ednag.export.formats import Exported
from ednag.export.model_card import _use
from ednag.export.run import export
from ednag.retraining.job import retrain
from ednag.retraining.module import Recipe
from ednag.spaces import NASBench201
from tests.retraining.conftest import report_of, short_trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    small = {"channels": 4, "cells": 1}
    trainer = short_trainer(limit_train_batches=4, limit_val_batches=1, limit_test_batches=1)
    retrain(report_of([1, 2, 3, 4, 0, 3]), NASBench201(), Digits(), Recipe(epochs=1), folder, trainer, network=small)
    return folder / "001"


def copy(run: Path, target: Path) -> Path:
    target.mkdir()
    for name in ("architecture.json", "weights.safetensors"):
        (target / name).write_bytes((run / name).read_bytes())
    return target


def test_onnx_runs_at_any_batch_size_with_the_same_logits(run: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    (done,) = export(run, ["onnx"], tmp_path)
    assert done.error <= module.TOLERANCE
    assert {path.name for path in tmp_path.iterdir()} == {
        "network.onnx",
        "use_onnx.py",
        "preprocessing.json",
        "README.md",
    }
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    x = torch.randn(5, 1, 16, 16)
    torch.testing.assert_close(
        torch.from_numpy(session.run(None, {"images": x.numpy()})[0]), load(run)(x).detach(), atol=1e-4, rtol=1e-4
    )
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["class_names"]) == [str(i) for i in range(10)]
    assert json.loads(told["preprocessing"])["mean"]


def test_torch_export_and_safetensors(run: Path, tmp_path: Path) -> None:
    done = export(run, ["torch_export", "safetensors"], tmp_path)
    x, network = torch.randn(5, 1, 16, 16), load(run)
    torch.testing.assert_close(torch.export.load(done[0].path).module()(x), network(x))
    assert torch.equal(load(tmp_path)(x), network(x))
    assert not network.training


def test_an_export_that_differs_is_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match=r"exported outputs differ by .*, more than"):
        export(run, ["torch_export"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_and_damaged_files(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no architecture\.json in"):
        load(tmp_path)
    one = copy(run, tmp_path / "one")
    (one / "weights.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights\.safetensors in"):
        load(one)
    two = copy(run, tmp_path / "two")
    (two / "weights.safetensors").write_bytes((run / "weights.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged"):
        load(two)
    (two / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged"):
        load(two)
    three = copy(run, tmp_path / "three")
    text = (three / "architecture.json").read_text()
    (three / "architecture.json").write_text(text[:80])
    with pytest.raises(ValueError, match=r"architecture\.json is damaged"):
        load(three)
    (three / "architecture.json").write_text('{"genes": []}')
    with pytest.raises(ValueError, match=r"not the description of a network \(no 'space'\)"):
        load(three)
    (three / "architecture.json").write_text(text.replace("ednag.spaces.NASBench201", "pathlib.Path"))
    with pytest.raises(ValueError, match="is not a search space"):
        load(three)
    (three / "architecture.json").write_text(text.replace('"channels": 4', '"channels": 5'))
    with pytest.raises(ValueError, match="not the weights of the network"):
        load(three)
    with pytest.raises(ValueError, match="unknown export format 'tflite'; allowed: onnx"):
        export(run, ["tflite"])  # type: ignore[list-item]


def test_all_failed(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"results": [{"rank": 1, "status": "failed", "val": {}}]}')
    with pytest.raises(ValueError, match=r"no architecture of .* trained with success"):
        load(tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(ValueError, match=r"summary\.json is damaged"):
        load(tmp_path)


def test_loading_needs_no_training_framework() -> None:
    code = "import ednag, sys; ednag.load; import ednag.data.preprocessing; sys.exit(any(n in sys.modules for n in ('lightning', 'torchvision')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("form", "word"),
    [
        ("onnx_any_size", "of any size"),
        ("torch_export", "torch.export.load"),
        ("onnx", "use_onnx.py"),
        ("safetensors", "ednag.load"),
    ],
)
def test_a_model_card_says_how_to_use_each_format(form: str, word: str) -> None:
    text = _use([Exported(form, Path("file"), 0.0)])
    assert text.startswith("## Use\n\n")
    assert word in text
    assert _use([]) == ""
