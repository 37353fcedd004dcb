"""Meta data: collected, killed, continued, and the same in the end."""

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
from torch import Tensor

from ednag.core.journal import append_line
from ednag.data.datasets import Digits
from ednag.fitness.training import Budget
from ednag.generation.collection import (
    Collection,
    JournalledTraining,
    Plan,
    collect_task,
    interleaved,
    read_journal,
)
from ednag.predictor.tasks import TaskDefinition
from ednag.samplers import RegularisedEvolution
from ednag.spaces import NASBench201

LIMITS = {"train": 60, "val": 40, "test": 40}


def plan(architectures: int = 3) -> Plan:
    sampler = RegularisedEvolution(population=2, tournament=1)
    return Plan(
        NASBench201(), sampler, architectures, 2, Budget(steps=3, batch_size=16), {"channels": 4, "cells": 1}, seed=0
    )


def prepared(folder: Path, tasks: int = 3) -> Collection:
    collection = Collection(folder, plan())
    collection.prepare({"digits": Digits(image_size=8)}, tasks, LIMITS, 8, most_classes=6)
    return collection


def outcome(folder: Path) -> list[tuple[object, ...]]:
    with np.load(folder / "rows.npz") as rows:
        assert str(rows["space"]) == "nasbench201"
        return [
            (int(t), tuple(g), float(v), float(w), int(s))
            for t, g, v, w, s in zip(*(rows[n] for n in ("task", "genes", "valid", "test", "seed")), strict=True)
        ]


def test_rows_are_distinct_architectures_of_each_task_and_begin_alike_in_a_stream(tmp_path: Path) -> None:
    collection = prepared(tmp_path)
    for number, task in enumerate(collection.tasks):  # in this process
        collect_task(tmp_path, collection.plan, task, number)
    rows = collection.save()
    assert rows["task"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert np.isfinite(rows["valid"]).all()
    assert (rows["test"] >= 0).all()
    assert (rows["test"] <= 100).all()
    assert json.loads(str(rows["budget"]))["steps"] == 3
    keys = NASBench201().identity(torch.from_numpy(rows["genes"]).long()).view(3, 3)
    assert all(len(set(some)) == 3 for some in keys.tolist())
    assert torch.equal(keys[0, :2], keys[2, :2])  # tasks 0 and 2 are of one stream
    assert not torch.equal(keys[0, :2], keys[1, :2])


def test_what_is_in_the_journal_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = prepared(tmp_path, tasks=1)
    task = collection.tasks[0]
    collect_task(tmp_path, collection.plan, task, 0)
    whole = read_journal(tmp_path / "rows" / f"{task.id}.jsonl")
    journal = tmp_path / "rows" / f"{task.id}.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text(lines[0] + lines[1][:20])  # killed while it wrote the second
    trained: list[list[int]] = []
    original = JournalledTraining.train

    def train(self: JournalledTraining, genes: Tensor) -> dict[str, float]:
        trained.append(genes.tolist())
        return original(self, genes)

    monkeypatch.setattr(JournalledTraining, "train", train)
    collect_task(tmp_path, collection.plan, task, 0)
    assert trained == [row["genes"] for row in whole[1:]]
    again = read_journal(journal)
    for row in (*whole, *again):
        row.pop("seconds")
    assert again == whole


def test_a_training_that_fails_is_a_row_and_the_task_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = prepared(tmp_path, tasks=1)
    original = JournalledTraining.train
    calls = iter(range(100))

    def train(self: JournalledTraining, genes: Tensor) -> dict[str, float]:
        if next(calls) == 1:
            raise RuntimeError("out of memory")
        return original(self, genes)

    monkeypatch.setattr(JournalledTraining, "train", train)
    collect_task(tmp_path, collection.plan, collection.tasks[0], 0)
    rows = collection.save()
    assert np.isnan(rows["valid"]).tolist() == [False, True, False]
    assert collection.rows(collection.tasks[0])[1]["error"] == "out of memory"


def test_sources_are_mixed_evenly() -> None:
    def tasks(source: str, count: int) -> list[TaskDefinition]:
        return [TaskDefinition(f"{source}{i}", source, (0, 1), 8, 8, False, i, LIMITS) for i in range(count)]

    order = [task.source for task in interleaved([tasks("a", 6), tasks("b", 3)])]
    assert order == ["a", "b", "a", "a", "b", "a", "a", "b", "a"]


def test_a_line_after_a_cut_one_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows" / "a.jsonl"
    first, second = (
        {"genes": [0, 1], "valid": 50.0, "test": None, "seconds": 1.5, "seed": seed, "error": None} for seed in (1, 2)
    )
    append_line(path, json.dumps(first))
    with path.open("a") as stream:
        stream.write('{"genes": ')
    append_line(path, json.dumps(second))
    assert read_journal(path) == [first, second]


def test_mistakes_are_told(tmp_path: Path) -> None:
    collection = Collection(tmp_path, plan())
    with pytest.raises(ValueError, match="must name the same data sets"):
        collection.prepare({"digits": Digits()}, {"digit": 3}, LIMITS, 8, 6)
    with pytest.raises(ValueError, match="at least one source"):
        collection.prepare({}, {}, LIMITS, 8, 6)
    with pytest.raises(ValueError, match="architectures and streams >= 1"):
        Collection(tmp_path, plan(architectures=0))


@pytest.mark.slow
def test_a_killed_collection_continues_and_ends_the_same(tmp_path: Path) -> None:
    options = [
        *("--space", "NASBench201", "--sampler", "RegularisedEvolution", "--sampler.population", "2"),
        *("--sampler.tournament", "1", "--tasks", "2", "--architectures", "3", "--image_size", "8"),
        *("--executor", "processes", "--executor.workers", "1"),
        *("--images", "{train: 60, val: 40, test: 40}", "--budget.steps", "3", "--budget.batch_size", "16"),
        *("--network", "{channels: 4, cells: 1}", "--trainer.accelerator", "cpu"),
        *("--sources", "{digits: {class_path: Digits, init_args: {image_size: 8}}}"),
    ]

    def start(*more: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "ednag", "collect", *more], env=os.environ | {"OMP_NUM_THREADS": "1"}
        )

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = start(*options, "--run_dir", str(killed))
    deadline = time.time() + 120
    while not list(killed.glob("rows/*.jsonl")) and time.time() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert start("--resume", str(killed)).wait() == 0
    assert start(*options, "--run_dir", str(whole)).wait() == 0
    assert len(outcome(whole)) == 6
    assert outcome(killed) == outcome(whole)
