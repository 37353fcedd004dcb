"""A generation whose trainings run on an executor: the same round by round, and never twice."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import pytest
import torch

from ednag.data import Digits
from ednag.execution import Call, Executor, InProcess, Processes
from ednag.fitness import Fitness, TrainingFitness
from ednag.fitness.training import Budget
from ednag.generation.measuring import JOURNAL, Measuring
from ednag.generation.run import Generation
from ednag.samplers import ArchiveDiffusion
from ednag.spaces import NASBench201

cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Two(InProcess):
    """Pretends to have two workers, and can be stopped after some calls."""

    def __init__(self, most: int = 1000) -> None:
        self.most, self.calls = most, 0

    @property
    def workers(self) -> int:
        return 2

    def run(self, calls, *rest):  # type: ignore[no-untyped-def]
        def counted():  # type: ignore[no-untyped-def]
            for call in calls:
                self.calls += isinstance(call, Call)
                if self.calls > self.most:
                    raise KeyboardInterrupt
                yield call

        yield from super().run(counted(), *rest)


def generation(evaluations: int = 12) -> Generation:
    budget = Budget(steps=2, batch_size=16)
    images = {"train": 60, "val": 60, "test": 60}
    fitness = TrainingFitness(budget, images, image_size=8, network={"channels": 4, "cells": 1})
    made = Generation(NASBench201(), fitness, ArchiveDiffusion(), evaluations=evaluations, top_k=3)
    made.setup(Digits(image_size=8), torch.device("cpu"))
    return made


def on(executor: Executor, folder: Path) -> Callable[[Fitness], Measuring]:
    folder.mkdir(exist_ok=True)
    return lambda fitness: Measuring(fitness, executor, folder)


def told(made: Generation, folder: Path, executor: Executor | None, asynchronous: bool = False) -> str:
    measuring = None if executor is None else on(executor, folder)
    folder.mkdir(exist_ok=True)
    made.report(made.run(folder, None, measuring, asynchronous)).save(folder / "report.json")
    return (folder / "report.json").read_text()


def test_round_by_round_an_executor_changes_nothing(tmp_path: Path) -> None:
    here = told(generation(), tmp_path / "here", None)
    assert told(generation(), tmp_path / "there", Two()) == here
    assert len((tmp_path / "there" / JOURNAL).read_text().splitlines()) == 12


@pytest.mark.slow
def test_processes_change_nothing_either(tmp_path: Path) -> None:
    here = told(generation(6), tmp_path / "here", None)
    assert told(generation(6), tmp_path / "there", Processes(workers=1)) == here


@pytest.mark.parametrize("asynchronous", [True, False])
def test_what_was_trained_before_a_kill_is_not_trained_again(tmp_path: Path, asynchronous: bool) -> None:
    begun = Two(most=7)
    with pytest.raises(KeyboardInterrupt):
        told(generation(), tmp_path, begun, asynchronous)
    lines = [json.loads(line)["genes"] for line in (tmp_path / JOURNAL).read_text().splitlines()]
    assert len(lines) == 7
    rest = Two()
    report = json.loads(told(generation(), tmp_path, rest, asynchronous))
    assert rest.calls == 12 - 7
    lines = [json.loads(line)["genes"] for line in (tmp_path / JOURNAL).read_text().splitlines()]
    assert len({tuple(genes) for genes in lines}) == 12
    assert report["counts"]["distinct_evaluations"] == 12
    assert all("test accuracy (%)" in one["scores"] for one in report["candidates"])


class Faulty(TrainingFitness):
    """A training that fails for a third of the cells."""

    def train(self, genes: torch.Tensor) -> dict[str, float]:
        if genes.sum() % 3 == 1:
            raise RuntimeError("too hot")
        return super().train(genes)


def test_failures_are_counted_and_the_search_goes_on(tmp_path: Path) -> None:
    made = generation(20)
    faulty = Faulty(made.fitness.budget, made.fitness.images, 8, made.fitness.network)
    made = Generation(NASBench201(), faulty, ArchiveDiffusion(), evaluations=20, top_k=3)
    made.setup(Digits(image_size=8), torch.device("cpu"))
    report = json.loads(told(made, tmp_path, Two(), asynchronous=True))
    rows = [json.loads(line) for line in (tmp_path / JOURNAL).read_text().splitlines()]
    failed = [row for row in rows if sum(row["genes"]) % 3 == 1]
    assert all(row["found"] == {"error": "RuntimeError: too hot"} for row in failed)
    assert report["counts"]["failed_evaluations"] == len(failed) > 0
