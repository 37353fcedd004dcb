"""Budgets of trainings, and benchmark tables as teachers of a predictor."""

import logging
from pathlib import Path

import pytest
import torch

from ednag.core.noise import Noise
from ednag.data import Digits
from ednag.fitness import BenchmarkFitness, MetaFitness
from ednag.predictor.budgets import BENCHMARK, PlannedTraining, TrainingBudget, budget_of_rows, decode, outside
from ednag.predictor.meta_data import MetaData
from ednag.predictor.meta_predictor import MetaPredictor, load_predictor
from ednag.predictor.saving import save_predictor
from ednag.predictor.scores import task_scores
from ednag.predictor.table_tasks import read_table_tasks
from ednag.spaces import NASBench201

SPACE = NASBench201()
SMALL = {"task_aware": False, "width": 24, "hidden": 32, "members": 2}


def test_a_budget_is_worked_out_encoded_and_decoded() -> None:
    rows = budget_of_rows({"steps": 64, "network": {"channels": 8, "cells": 1}}, 1000, 16, 20)
    assert rows == TrainingBudget(64, 1000, 16, 20, 8)
    for one in (rows, BENCHMARK):
        assert vars(decode(one.encode())) == pytest.approx(vars(one), rel=1e-4)
        assert one.encode().abs().max() < 2
    data = Digits(image_size=8, batch_size=100)
    data.setup()
    found = PlannedTraining(epochs=3, channels=4, cells=2).on(data)
    images = len(data.splits.train)
    assert found == TrainingBudget(3 * -(-images // 100), images, 8, 10, 8)
    assert outside(rows, rows, BENCHMARK).startswith("classes 20, learned 20 to 10")
    assert outside(TrainingBudget(1e6, 2000, 20, 15, 30), rows, TrainingBudget(4e4, 5e4, 32, 20, 80)) == (
        "steps 1,000,000, learned 64 to 40,000, classes 15, learned 20 to 20"
    )
    for wrong in (lambda: TrainingBudget(0, 1, 1, 1, 1), lambda: PlannedTraining(epochs=0)):
        with pytest.raises(ValueError, match="budget needs"):
            wrong()


def test_tables_teach_without_the_data_sets_that_are_left_out() -> None:
    tasks = read_table_tasks("nasbench201", ["CIFAR-10"])
    assert [(one.dataset, one.budget.steps) for one in tasks] == [
        ("cifar100", 12 * 196),
        ("cifar100", 200 * 196),
        ("imagenet16-120", 200 * 593),
    ]
    assert all(one.genes.shape == (6466, 6) and one.accuracy.shape == (6466,) for one in tasks)
    assert abs(float(tasks[0].accuracy.mean())) < 1e-3
    assert {one.dataset for one in read_table_tasks("nasbench201/cifar10", ["cifar10"])} == {"cifar10"}
    with pytest.raises(ValueError, match="unknown table that teaches a predictor 'transnas101_micro'; allowed: nasb"):
        read_table_tasks("transnas101_micro")
    data = MetaData(images=False, tables=["nasbench201"], table_rows=7)
    batch = next(iter(data.train_dataloader()))
    assert batch.genes.shape[0] == 16 + 3
    assert batch.measured[16:].sum(1).tolist() == [7, 7, 7]
    assert not batch.present.any()
    assert torch.equal(batch.budget[-1], tasks[-1].budget.encode())
    assert not data.part("val").tables


def test_the_shipped_predictor_answers_for_short_and_for_long_trainings() -> None:
    model = load_predictor("nasbench201")
    assert model.learned_from == ["cifar100", "imagenet16-120"]
    fitness = BenchmarkFitness("nasbench201", "cifar10")
    fitness.setup(SPACE)
    genes = SPACE.random(Noise([0]), 2000)[0]
    accuracy = fitness.score(genes)
    long, short = (
        model.predict_scores(genes, model.embed(budget=budget.encode()))[0]
        for budget in (BENCHMARK, TrainingBudget(64, 1000, 16, 10, 8))
    )
    assert task_scores(long, accuracy)["spearman"] > 0.9
    assert task_scores(short, accuracy)["spearman"] < 0.8
    low, high = model.learned_range()
    assert (round(low.steps), round(high.steps)) == (64, 118_600)


def test_a_budget_beyond_what_was_learned_is_answered_at_the_border_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = MetaPredictor(**SMALL)
    model.budget_range.copy_(torch.stack([TrainingBudget(64, 1000, 16, 10, 8).encode(), BENCHMARK.encode()]))
    save_predictor(model, tmp_path / "predictor")
    genes = SPACE.random(Noise([0]), 50)[0]
    scores = {}
    for epochs in (200, 10**6, 10**7):
        fitness = MetaFitness(tmp_path, budget=PlannedTraining(epochs=epochs))
        with caplog.at_level(logging.WARNING):
            fitness.setup(SPACE, Digits(image_size=16, batch_size=256))
        scores[epochs] = fitness.score(genes)
    warnings = [
        record.getMessage() for record in caplog.records if "learned from other trainings" in record.getMessage()
    ]
    assert len(warnings) == 2
    assert "learned 64 to 39,200" in warnings[0]
    assert torch.equal(scores[10**6], scores[10**7])
    assert not torch.equal(scores[200], scores[10**6])


def test_a_predictor_is_never_a_prior_for_a_data_set_whose_table_taught_it() -> None:
    for dataset, allowed in (("cifar10", True), ("cifar100", False)):
        target = BenchmarkFitness("nasbench201", dataset)
        target.setup(SPACE)
        prior = MetaFitness()
        prior.unlearn(target)
        if allowed:
            prior.setup(SPACE, Digits(image_size=16))
        else:
            with pytest.raises(ValueError, match=r"table of its own target \(nasbench201/cifar100\)"):
                prior.setup(SPACE, Digits(image_size=16))


def test_images_are_asked_for_by_a_predictor_that_looks_at_them(tmp_path: Path) -> None:
    import lightning.pytorch as pl

    trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    with pytest.raises(ValueError, match=r"set --model.task_aware false, or --data.images true"):
        trainer.fit(MetaPredictor(width=24), MetaData(images=False))
