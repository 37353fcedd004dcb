"""Baseline rows of a retraining: what is trained, at what cost, and what the summary says of it."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import torch

from ednag.core.fingerprint import describe_object
from ednag.data.describe import ImageTask
from ednag.generation.report import Candidate, Report
from ednag.retraining.baselines import plan_baselines, verdict
from ednag.retraining.job import retrain
from ednag.retraining.module import Recipe
from ednag.retraining.results import Result
from ednag.spaces import NASBench201
from tests.retraining.conftest import short_trainer
from tests.retraining.test_finetuning import SPACE, images, recipe

TEXT = "d=1,1,2,1,1 e=3,3,2,3,3 k=3,3,3,3,3 head=no r=32"


def test_baselines_stand_in_the_summary_and_are_trained_once(patterns: Path, tmp_path: Path) -> None:
    genes = SPACE.parse(TEXT)
    report = Report(describe_object(SPACE), "test", [Candidate(TEXT, genes.tolist(), 1.0)])
    options = replace(recipe(epochs=1, head_epochs=0), label_smoothing=0.1)
    summary = retrain(report, SPACE, images(patterns), options, tmp_path, short_trainer(), baselines=True)
    rows = {row.label: row for row in summary.baselines}
    assert list(rows) == ["linear_probe", "parent", "thin_resnet", "random_1", "random_2"]
    assert all(row.status == "finished" for row in rows.values())
    picked = summary.results[0]
    assert rows["linear_probe"].epochs == 0
    assert rows["linear_probe"].val == rows["linear_probe"].start == rows["parent"].start
    assert rows["parent"].genes == SPACE.largest.tolist()
    assert rows["thin_resnet"].epochs == 5
    assert rows["thin_resnet"].start == {}
    for name in ("thin_resnet", "random_1", "random_2"):
        assert rows[name].macs <= picked.macs
    for name in ("random_1", "random_2"):
        assert rows[name].macs >= 0.7 * picked.macs
        assert rows[name].architecture != TEXT
    saved = json.loads((tmp_path / "summary.json").read_text())
    assert [row["label"] for row in saved["baselines"]] == list(rows)
    assert saved["verdict"] == summary.verdict != ""
    assert saved["baselines"][0]["fitness"] is None
    with (tmp_path / "summary.csv").open() as stream:
        assert [row["label"] for row in csv.DictReader(stream)] == ["", *rows]

    def never(**_arguments: object) -> None:
        raise AssertionError("all of these were trained")

    again = retrain(report, SPACE, images(patterns), options, tmp_path, never, baselines=True)  # type: ignore[arg-type]
    assert again == summary


def test_networks_that_inherit_nothing_are_held_against_what_inherits_nothing() -> None:
    space = NASBench201()
    genes = space.parse(
        "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|skip_connect~1|nor_conv_3x3~2|"
    )
    plans = plan_baselines(space, genes, ImageTask(4, 3, (32, 32)), Recipe(epochs=3), {"channels": 4, "cells": 1}, 0)
    assert [plan.name for plan in plans] == ["thin_resnet", "random_1", "random_2"]
    assert all(plan.recipe == Recipe(epochs=3) for plan in plans)
    keys = [int(space.identity(torch.tensor(plan.candidate.genes))) for plan in plans[1:]]
    assert len(set(keys)) == 2


def row(label: str, val: float, test: float) -> Result:
    accuracies = ({"top1": val}, {"top1": test})
    return Result(1, "text", [0], 1.0, "finished", "", 1, 1, *accuracies, 1, 1.0, 1.0, 0, {}, label)


def test_the_verdict_compares_what_validation_chose_with_random_members() -> None:
    results = [row("", 80.0, 75.0), row("", 70.0, 90.0)]
    better, worse = row("random_1", 60.0, 78.0), row("random_2", 90.0, 70.0)
    assert verdict(results, [better]).startswith("generation brought nothing here")
    assert "78.0 %" in verdict(results, [better])
    assert "reaches 75.0 % on test images" in verdict(results, [better, worse])
    assert "74.0 %" in verdict(results, [better, worse])
    assert verdict(results, [row("parent", 99.0, 99.0)]) == ""
    assert verdict([], [better]) == ""
