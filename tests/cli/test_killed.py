"""Every verb, killed at random moments and resumed, ends with what an undisturbed run ends with."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ednag import load
from tests.cli.test_run_directory import ednag
from tests.engine.test_pipeline import pipeline
from tests.killing import killed_and_resumed
from tests.predictor.synthetic import write_meta_data

pytestmark = pytest.mark.usefixtures("hangups")

QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
GENERATE = [
    *["generate", "--space", "NASBench201", "--fitness", "TrainingFitness", "--fitness.budget.steps", "3"],
    *["--fitness.network", "{channels: 4, cells: 1}", "--cost.network", "{channels: 4, cells: 1}"],
    *["--data", "Digits", "--data.image_size", "8", "--evaluations", "24", "--sampler", "ArchiveDiffusion", *QUIET],
]
ENDINGS = {"SIGKILL": -signal.SIGKILL, "SIGTERM": 143, "SIGINT": 130, "SIGHUP": 129, "room": 2}


def check(ended: list[list]) -> None:
    """Every attempt ended by its signal, or in time, and with 2 where there was no room; the last one in peace."""
    assert ended[-1] == ["", 0]
    assert all(status == 2 for how, status in ended if how == "room"), ended
    assert all(status in (ENDINGS[how], 0) for how, status in ended[:-1]), ended


def test_generate(tmp_path: Path) -> None:
    how, rooms = ("SIGKILL", "SIGTERM", "SIGINT"), (1000, 8000, 33_000)  # nothing, no state, no figure
    check(killed_and_resumed(GENERATE, tmp_path / "run", tmp_path / "whole", 6, seed=1, how=how, rooms=rooms))
    for name in ("report.json", "history.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def fit_config(folder: Path) -> list[str]:
    """A meta predictor with dropout, early stopping and the best epoch's weights, and a generation with it."""
    write_meta_data(folder, per_source=3, rows=8)
    paths = {"rows": folder / "rows.npz", "tasks": folder / "tasks.json", "features": folder / "features"}
    data = {name: str(path) for name, path in paths.items()} | {"test_sources": ["ants"], "extractor": "resnet18"}
    callbacks = [
        {"class_path": "EarlyStopping", "init_args": {"monitor": "val/spearman", "mode": "max", "patience": 4}},
        {"class_path": "ModelCheckpoint", "init_args": {"monitor": "val/spearman", "mode": "max"}},
    ]
    content = {
        "model": {"class_path": "ednag.predictor.meta_predictor.MetaPredictor", "init_args": {"extractor": "resnet18"}},
        "data": {"class_path": "ednag.predictor.meta_data.MetaData", "init_args": data},
        "trainer": {"max_epochs": 14, "accelerator": "cpu", "enable_progress_bar": False, "callbacks": callbacks},
    }
    content["trainer"]["enable_model_summary"] = False
    (folder / "fit.yaml").write_text(yaml.safe_dump(content))
    return ["fit", "--config", str(folder / "fit.yaml")]


def test_fit(tmp_path: Path) -> None:
    start = fit_config(tmp_path)
    how = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
    check(killed_and_resumed(start, tmp_path / "run", tmp_path / "whole", kills=4, seed=3, how=how, rooms=(10**6,)))
    ours, theirs = (tmp_path / name / "predictor" / "weights.safetensors" for name in ("run", "whole"))
    assert ours.read_bytes() == theirs.read_bytes()
    ours, theirs = (torch.load(tmp_path / name / "fitted.ckpt", weights_only=True) for name in ("run", "whole"))
    assert ours["epoch"] == theirs["epoch"]
    assert ours["global_step"] == theirs["global_step"]


def test_an_ended_fit_whose_rate_has_ended_is_not_made_longer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = fit_config(tmp_path)
    config = yaml.safe_load((tmp_path / "fit.yaml").read_text())
    del config["trainer"]["callbacks"][0]  # would stop it early
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    run = tmp_path / "run"
    ednag(*start, "--trainer.max_epochs", "4", "--run_dir", str(run))
    ednag("fit", "--resume", str(run), "--trainer.max_epochs", "3", status=2)
    assert "has ended, with max_epochs=4; it can be made longer, got max_epochs=3" in capsys.readouterr().err
    ednag("fit", "--resume", str(run), "--trainer.max_epochs", "7", status=2)  # the predictor's rate ends at 0
    assert "its learning rate followed a schedule for max_epochs=4; start another" in capsys.readouterr().err
    ednag("fit", "--resume", str(run))


@pytest.mark.slow
def test_a_pipeline_killed_while_it_fits_generates_and_retrains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDNAG_CACHE", str(tmp_path / "cache"))
    start = ["fit", "--config", str(pipeline(tmp_path, epochs=2, trained=3))]
    at = ("last.ckpt", "fitted.ckpt", "state.pt", "retrained/job.json", "retrained/001/last.ckpt")
    run, whole = tmp_path / "run", tmp_path / "whole"
    ended = killed_and_resumed(start, run, whole, kills=0, seed=0, at=at)
    check(ended)
    assert [status for _, status in ended] == [*[-signal.SIGKILL] * 5, 0]
    for name in ("report.json", "history.csv", "predictor/weights.safetensors", "curves.csv"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    ours, theirs = (load(folder / "retrained/001").state_dict() for folder in (run, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    results = [json.loads((folder / "retrained/001/metrics.json").read_text()) for folder in (run, whole)]
    assert results[0]["test"] == results[1]["test"]
    assert results[0]["epochs"] == 3


def test_collect(tmp_path: Path) -> None:
    digits = {"class_path": "ednag.data.Digits", "init_args": {"image_size": 8}}
    content = {
        "space": "NASBench201",
        "sampler": {"class_path": "RegularisedEvolution", "init_args": {"population": 2, "tournament": 1}},
        "sources": {"digits": digits},
        "tasks": 3,
        "architectures": 6,
        "streams": 2,
        "images": {"train": 60, "val": 40, "test": 40},
        "image_size": 8,
        "budget": {"steps": 8, "batch_size": 16},
        "network": {"channels": 4, "cells": 1},
        "executor": {"class_path": "Processes", "init_args": {"workers": 1}},
    }
    (tmp_path / "collect.yaml").write_text(yaml.safe_dump(content))
    start = ["collect", "--config", str(tmp_path / "collect.yaml"), *QUIET]
    how = ("SIGKILL", "SIGTERM", "SIGINT")
    check(killed_and_resumed(start, tmp_path / "run", tmp_path / "whole", kills=3, seed=0, how=how, rooms=(9000,)))
    ours, theirs = (dict(np.load(tmp_path / name / "rows.npz")) for name in ("run", "whole"))
    for name in ("genes", "task", "valid", "test", "seed"):
        assert np.array_equal(ours[name], theirs[name])
    lines = [len(path.read_text().splitlines()) for path in (tmp_path / "run" / "rows").iterdir()]
    assert sum(lines) <= 18 + 3  # at most one training more for each kill


def folder_of_images(root: Path) -> Path:
    from PIL import Image

    generator = np.random.default_rng(0)
    for label in range(2):
        (root / f"class{label}").mkdir(parents=True)
        for i in range(40):
            pixels = generator.integers(0, 128 + 127 * label, (12, 12, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"class{label}" / f"{i:02d}.png")
    return root


@pytest.mark.parametrize("workers", [0, 1])
def test_retrain_from_images_on_disk(workers: int, tmp_path: Path) -> None:
    from tests.retraining.conftest import GENES, report_of

    report_of(GENES[0]).save(tmp_path / "report.json")
    images = folder_of_images(tmp_path / "images")
    start = [
        *["retrain", "--report", str(tmp_path / "report.json"), "--data", "ImageFolder", "--data.root", str(images)],
        *["--data.image_size", "8", "--data.in_memory", "false", "--data.num_workers", str(workers)],
        *["--data.batch_size", "16", "--recipe.epochs", "6", "--recipe.mixup", "0.2"],
        *["--network", "{channels: 4, cells: 1}", *QUIET],
    ]
    how = ("SIGKILL", "SIGTERM", "SIGINT")
    check(killed_and_resumed(start, tmp_path / "run", tmp_path / "whole", kills=4, seed=1, how=how, rooms=(30_000,)))
    ours, theirs = (load(tmp_path / name / "001").state_dict() for name in ("run", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    rows = [list(csv.DictReader((tmp_path / name / "summary.csv").open())) for name in ("run", "whole")]
    assert rows[0][0]["test_top1"] == rows[1][0]["test_top1"]


@pytest.mark.parametrize(("how", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_stopped_run_says_how_to_continue_however_often_it_is_stopped(
    how: signal.Signals, status: int, tmp_path: Path
) -> None:
    run = tmp_path / "the run"
    command = [sys.executable, "-m", "ednag", *GENERATE, "--evaluations", "4000", "--run_dir", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (run / "logs").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(how)
    while process.poll() is None:  # again and again, until its very end
        time.sleep(0.02)
        process.send_signal(how)
    error = process.communicate()[1]
    assert process.returncode == status
    assert f"stopped by {how.name}; continue with: ednag generate --resume '{run}'" in error
    assert "Traceback" not in error


def test_ctrl_c_while_the_program_is_imported(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import ednag.__main__ as m; print('begun', flush=True); m.main()",
            "generate",
            "--help",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == ""
    assert process.returncode == 130
