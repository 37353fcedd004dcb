"""A retraining is the same wherever its networks are trained, and survives what happens to workers."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from ednag.data import Digits
from ednag.execution import Executor, InProcess, Processes, Ray, Resources
from ednag.generation.report import Report
from ednag.retraining.job import retrain
from ednag.retraining.module import Recipe
from ednag.retraining.results import Summary
from ednag.spaces import NASBench201

from .conftest import short_trainer

cloudpickle.register_pickle_by_value(sys.modules[__name__])
cloudpickle.register_pickle_by_value(sys.modules[short_trainer.__module__])

SMALL = {"channels": 4, "cells": 1}
SAME = ("weights.safetensors", "predictions.npz", "mistakes.npz", "curves.csv", "architecture.json")
VARYING = ("seconds", "images_per_second")


class DieOnce(pl.Callback):
    """Kill the worker in the second epoch of the first network, if it has not been done."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        folder = Path(trainer.default_root_dir)
        if folder.name == "001" and trainer.current_epoch == 1 and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)


def dying() -> Callable[..., pl.Trainer]:
    make = short_trainer(limit_train_batches=3)
    return lambda *, folder, max_epochs, callbacks: make(
        folder=folder, max_epochs=max_epochs, callbacks=[*callbacks, DieOnce()]
    )


def go(report: Report, folder: Path, executor: Executor, make: Callable[..., pl.Trainer]) -> Summary:
    recipe = Recipe(epochs=2, mixup=0.2)
    return retrain(report, NASBench201(), Digits(cutout=4), recipe, folder, make, network=SMALL, executor=executor)


def check_same(one: Path, other: Path) -> None:
    for rank in ("001", "002"):
        for name in SAME:
            assert (one / rank / name).read_bytes() == (other / rank / name).read_bytes(), name
    summaries = []
    for folder in (one, other):
        rows = json.loads((folder / "summary.json").read_text())["results"]
        summaries.append([{name: v for name, v in row.items() if name not in VARYING} for row in rows])
    assert summaries[0] == summaries[1]


@pytest.mark.slow
def test_processes_end_with_what_one_process_ends_with(tmp_path: Path, report: Report) -> None:
    go(report, tmp_path / "here", InProcess(), short_trainer(limit_train_batches=3))
    there = go(report, tmp_path / "there", Processes(workers=2, retries=1), dying())
    assert [result.status for result in there.results] == ["finished", "finished"]
    assert (tmp_path / "there/001/died").exists()  # and went on after the epoch that it had finished
    check_same(tmp_path / "here", tmp_path / "there")
    again = go(report, tmp_path / "there", InProcess(), short_trainer(limit_train_batches=3))
    assert again.results == there.results


@pytest.mark.slow
def test_ray_ends_with_what_one_process_ends_with(tmp_path: Path, report: Report) -> None:
    pytest.importorskip("ray")
    make = short_trainer(limit_train_batches=3)
    go(report, tmp_path / "here", InProcess(), make)
    go(report, tmp_path / "there", Ray(workers=2, resources=Resources(cpu=1)), make)
    check_same(tmp_path / "here", tmp_path / "there")


def test_a_network_whose_workers_die_is_recorded_and_the_rest_go_on(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ednag.execution import Failure, Outcome

    class Fragile(InProcess):
        def run(self, calls, *rest):  # type: ignore[no-untyped-def]
            for outcome in super().run(calls, *rest):
                lost = outcome.call.name == "001"
                yield Outcome(outcome.call, failure=Failure("lost", "it died (3 attempts)")) if lost else outcome

    failed, finished = go(report, tmp_path, Fragile(), short_trainer(limit_train_batches=1)).results
    assert (failed.status, failed.reason, finished.status) == ("failed", "it died (3 attempts)", "finished")
    assert failed.params > 0
    assert json.loads((tmp_path / "001/metrics.json").read_text())["status"] == "failed"


def test_a_data_module_is_sent_without_its_images(tmp_path: Path) -> None:
    data = Digits()
    data.setup()
    data.test_dataloader()
    sent = cloudpickle.dumps(data)
    assert len(sent) < 10_000
    there = cloudpickle.loads(sent)
    assert there.normalisation == data.normalisation
    assert there.class_names == data.class_names
    assert np.array_equal(there.splits.train.pixels, data.splits.train.pixels)
    assert torch.equal(next(iter(there.val_dataloader()))[0], next(iter(data.val_dataloader()))[0])
