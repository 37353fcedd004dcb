"""Shipped retraining configurations that no other test trains with: one epoch of each, on few and small photographs."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from ednag.cli.main import main
from ednag.core.noise import Noise
from ednag.data.datasets import Digits
from ednag.generation.report import Candidate, Report
from ednag.retraining.job import retrain
from ednag.retraining.module import Recipe
from ednag.retraining.supernet import SupernetWeights
from ednag.samplers.presets import CONFIGS
from ednag.spaces import DARTS, NASBench101, NASBench201, SearchSpace, TransNAS101Macro, TransNAS101Micro

CASES = {
    "nasbench101-cifar10": (
        NASBench101(),
        "0110000011000010000100000 input,conv1x1-bn-relu,maxpool3x3,conv3x3-bn-relu,output",
        "{channels: 8, cells: 1}",
    ),
    "transnas101-micro-cifar10": (
        TransNAS101Micro(),
        "64-41414-2_13_013",
        "{channels: 4, stem_stride: 1}",  # in channels_last, this crashed the process
    ),
    "transnas101-macro-cifar10": (TransNAS101Macro(), "64-4231-basic", "{channels: 8, stem_stride: 1}"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_shipped_recipe_trains(name: str, photographs: Path, tmp_path: Path) -> None:
    space: SearchSpace
    space, text, network = CASES[name]
    genes = space.parse(text)
    kind = {"class_path": f"ednag.spaces.{type(space).__name__}", "init_args": {}}
    Report(kind, "test", [Candidate(text, genes.tolist(), 1.0)]).save(tmp_path / "report.json")
    data = ["--data", "ImageFolder", "--data.root", str(photographs), "--data.image_size", "32"]
    few = ["--data.batch_size", "16", "--data.num_workers", "0", "--recipe.epochs", "1", "--network", network]
    quiet = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    config = ["--config", str(CONFIGS / "retrain" / f"{name}.yaml"), "--report", str(tmp_path / "report.json")]
    before = torch.get_num_threads()
    assert main(["retrain", *config, *data, *few, *quiet, "--run_dir", str(tmp_path / "run")]) == 0
    assert torch.get_num_threads() == before
    result = json.loads((tmp_path / "run/001/metrics.json").read_text())
    assert (result["status"], result["epochs"], result["architecture"]) == ("finished", 1, text)
    assert result["test"]["nll"] > 0


def test_gradients_of_darts_networks_are_clipped(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration's clipping reaches the trainer of each network."""
    clipped = []
    monkeypatch.setattr(pl.Trainer, "fit", lambda self, *_, **__: clipped.append(self.gradient_clip_val) or exit(9))
    genes = DARTS().random(Noise([0]), 1)[0, 0]
    network = "{channels: 4, cells: 3, auxiliary: false, drop_path: 0.0}"
    kind = {"class_path": "ednag.spaces.DARTS", "init_args": {}}
    Report(kind, "test", [Candidate(DARTS().describe(genes), genes.tolist(), 1.0)]).save(tmp_path / "report.json")
    config = ["--config", str(CONFIGS / "retrain/darts-cifar10.yaml"), "--report", str(tmp_path / "report.json")]
    data = ["--data", "ImageFolder", "--data.root", str(photographs), "--data.image_size", "32", "--network", network]
    with pytest.raises(SystemExit):
        main(["retrain", *config, *data, "--trainer.accelerator", "cpu", "--run_dir", str(tmp_path / "run")])
    assert clipped == [5]


def test_the_supernet_that_weights_come_from_is_written_down(
    tmp_path: Path, report: Report, silent: Callable[..., Callable[..., pl.Trainer]]
) -> None:
    (tmp_path / "supernet").write_bytes(b"weights")
    given = SupernetWeights(tmp_path / "supernet", 3).provenance()
    assert given["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert (given["path"], given["bytes"], given["recalibration_batches"]) == (str(tmp_path / "supernet"), 7, 3)
    options = {"top_k": 1, "network": {"channels": 4, "cells": 1}}
    few = silent(limit_train_batches=1, limit_val_batches=1, limit_test_batches=1)
    arguments = (report, NASBench201(), Digits(), Recipe(epochs=1), tmp_path / "run", few)
    retrain(*arguments, **options, supernets=[given])
    assert json.loads((tmp_path / "run/job.json").read_text())["supernets"] == [given]
    for other in ([], [{**given, "sha256": "0" * 64}]):
        with pytest.raises(ValueError, match=r"another retraining \(different: supernets\)"):
            retrain(*arguments, **options, supernets=other)
    with pytest.raises(FileNotFoundError, match="no supernet checkpoint at"):
        SupernetWeights(tmp_path / "none").provenance()
