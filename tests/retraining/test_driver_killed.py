"""A retraining whose driver is killed: its workers end, and it goes on where it was, here or on workers."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import lightning.pytorch as pl
import pytest

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

DRIVER = """
import pickle, sys
from pathlib import Path
go, arguments = pickle.loads(Path(sys.argv[1]).read_bytes())
go(*arguments)
"""


class HangSecond(pl.Callback):
    """Hang for ever in the second epoch of the second network, and leave word of it."""

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: object) -> None:
        folder = Path(trainer.default_root_dir)
        if folder.name == "002" and trainer.current_epoch == 1:
            (folder / "hangs").write_text(str(os.getpid()))
            time.sleep(600)


def hanging() -> Callable[..., pl.Trainer]:
    make = short_trainer(limit_train_batches=2)
    return lambda *, folder, max_epochs, callbacks: make(
        folder=folder, max_epochs=max_epochs, callbacks=[*callbacks, HangSecond()]
    )


def go(report: Report, folder: Path, executor: Executor, make: Callable[..., pl.Trainer]) -> Summary:
    network = {"channels": 4, "cells": 1}
    return retrain(report, NASBench201(), Digits(), Recipe(epochs=2), folder, make, network=network, executor=executor)


def parents() -> dict[int, int]:
    """Parent of each process that lives."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has ended meanwhile
            continue
        if state != "Z":
            found[int(path.parent.name)] = int(parent)
    return found


def descendants(of: int) -> set[int]:
    """All processes that a process has started, and those that these have started."""
    every, found, latest = parents(), set(), {of}
    while latest:
        latest = {process for process, parent in every.items() if parent in latest}
        found |= latest
    return found


def wait_for(what: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (true := what()) and time.monotonic() < end:
        time.sleep(0.05)
    return true


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are listed by /proc")
@pytest.mark.parametrize("kind", ["processes", "ray"])
def test_a_killed_driver_leaves_no_worker_and_its_run_goes_on(kind: str, tmp_path: Path, report: Report) -> None:
    if kind == "ray":
        pytest.importorskip("ray")
    run = tmp_path / "run"
    executor = Processes(workers=1) if kind == "processes" else Ray(workers=1, resources=Resources(cpu=1))
    work = tmp_path / "work.pkl"
    work.write_bytes(cloudpickle.dumps((go, (report, run, executor, hanging()))))
    driver = subprocess.Popen([sys.executable, "-W", "ignore", "-c", DRIVER, str(work)], stderr=subprocess.PIPE)
    hangs = run / "002/hangs"
    try:
        assert wait_for(lambda: hangs.exists() or driver.poll() is not None, 300)
        assert driver.poll() is None, driver.stderr and driver.stderr.read().decode()
        started = descendants(driver.pid)
    finally:
        driver.kill()
    driver.wait()
    assert int(hangs.read_text()) in started
    finished = (run / "001/metrics.json").read_bytes(), (run / "001/metrics.json").stat().st_mtime_ns
    assert wait_for(lambda: int(hangs.read_text()) not in parents(), 30)
    assert wait_for(lambda: not started & set(parents()), 120), started & set(parents())  # Ray's agents take a minute

    summary = go(report, run, InProcess(), short_trainer(limit_train_batches=2))
    assert [result.status for result in summary.results] == ["finished", "finished"]
    assert finished == ((run / "001/metrics.json").read_bytes(), (run / "001/metrics.json").stat().st_mtime_ns)
    assert [row["epochs"] for row in json.loads((run / "summary.json").read_text())["results"]] == [2, 2]
    assert len((run / "002/curves.csv").read_text().splitlines()) == 3  # a header and each epoch once
