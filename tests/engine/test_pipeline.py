"""Fit the meta predictor, generate with it, retrain what it generated: one run."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from ednag.cli.main import main
from ednag.predictor.meta_predictor import load_predictor
from ednag.retraining.results import METRICS
from ednag.samplers.presets import CONFIGS
from tests.predictor.synthetic import write_meta_data


def pipeline(folder: Path, epochs: int, trained: int = 1) -> Path:
    """Write configs/pipeline.yaml, as it ships, but for its size, ``trained`` epochs of each network, and its meta data."""
    pytest.importorskip("efficientnet_lite_pytorch")
    write_meta_data(folder, per_source=2, rows=8, features=1280)
    for path in (folder / "features").glob("*-resnet18.safetensors"):
        path.rename(path.with_name(path.name.replace("resnet18", "efficientnet_lite0")))
    config = yaml.safe_load((CONFIGS / "pipeline.yaml").read_text())
    config["data"]["init_args"] = {
        **{"rows": str(folder / "rows.npz"), "tasks": str(folder / "tasks.json"), "features": str(folder / "features")},
        "test_sources": ["ants"],
    }
    config["trainer"] |= {"max_epochs": epochs, "accelerator": "cpu", "enable_progress_bar": False}
    _, _, generation, retraining = config["trainer"]["callbacks"]
    generation["init_args"]["generation"] |= {"evaluations": 30, "top_k": 1}
    retraining["init_args"]["recipe"] |= {"epochs": trained}
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def ednag(*args: str) -> None:
    before = sys.argv
    sys.argv = ["ednag", *args]
    try:
        assert main() == 0
    finally:
        sys.argv = before


@pytest.mark.slow
def test_one_run_holds_the_predictor_the_report_and_the_trained_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb").finish()  # of an earlier test: a logger joins a run that is open
    monkeypatch.setenv("EDNAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    config, run = pipeline(tmp_path, epochs=2), tmp_path / "pipeline-run"
    wandb = str(CONFIGS / "logger/wandb.yaml")
    ednag("fit", "--config", str(config), "--config", wandb, "--run_dir", str(run))
    predictor = load_predictor(run)
    assert predictor.space.name == "nasbench201"
    report = json.loads((run / "report.json").read_text())
    assert report["counts"]["distinct_evaluations"] == 30
    result = json.loads((run / "retrained" / "001" / METRICS).read_text())
    assert result["status"] == "finished"
    assert result["architecture"] == report["candidates"][0]["architecture"]
    kept = list(run.rglob("*.wandb"))
    assert len(kept) == 2  # the predictor's training with its generation, and the network's
