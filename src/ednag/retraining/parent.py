"""The parent that is fine-tuned before anything is cut out of it: by a retraining, or before a generation."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import lightning.pytorch as pl
from torch import nn

from ednag.classify.saved import load_network, read_architecture
from ednag.core.storage import PART
from ednag.data.describe import ImageTask, describe_data
from ednag.execution import Executor, InProcess
from ednag.execution.base import Observer
from ednag.generation.report import Report
from ednag.retraining.baselines import plan_parent
from ednag.retraining.module import Recipe
from ednag.retraining.plan import claim, describe_job, different_parts
from ednag.retraining.results import METRICS
from ednag.retraining.training import Job, Shared, TrainerFactory, default_trainer, train_all
from ednag.spaces import SearchSpace
from ednag.spaces.inheritance import InheritingSpace

log = logging.getLogger(__name__)

PARENT = "parent"
"""Where the run directory of a generation holds the parent that was fine-tuned before it."""


def comes_first(space: SearchSpace, recipe: Recipe | None) -> TypeGuard[InheritingSpace]:
    """Whether networks of a space, trained by a recipe, are cut out of a parent that was fine-tuned before."""
    tuning = None if recipe is None else recipe.fine_tuning
    return isinstance(space, InheritingSpace) and tuning is not None and tuning.through_parent


def tuned_parent(
    space: InheritingSpace,
    data: pl.LightningDataModule,
    recipe: Recipe,
    run_dir: Path,
    make_trainer: TrainerFactory | None = None,
    network: Mapping[str, Any] | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    observe: Observer | None = None,
) -> nn.Module | None:
    """Fine-tune the parent of a space in a folder of its own; called again after a kill, go on, or read what there is.

    Arguments are those of :func:`ednag.retraining.job.retrain`; ``recipe`` is that of the sub-networks.

    Returns:
        the trained network, on the CPU; ``None`` if its training failed.

    Raises:
        ValueError: if ``run_dir`` holds the parent of another job, or the images or a network option don't suit.
    """
    job = parent_job(space, describe_data(data), recipe, dict(network or {}), seed, run_dir)
    claim(run_dir, _describe(job, data))
    return train_parent(job, space, Shared(data, make_trainer or default_trainer), executor or InProcess(), observe)


def parent_job(
    space: InheritingSpace,
    task: ImageTask,
    recipe: Recipe,
    network: dict[str, Any],
    seed: int,
    run_dir: Path,
    report_images: bool = False,
) -> Job:
    """Plan the training of a parent, whose sub-networks are trained by ``recipe``."""
    return Job.of_baseline(plan_parent(space, recipe, network), task, seed, run_dir, report_images)


def train_parent(
    job: Job, space: SearchSpace, shared: Shared, executor: Executor, observe: Observer | None
) -> nn.Module | None:
    """Train it if it has no result yet, and read it; ``None`` if its training failed."""
    name = job.folder.name
    found = None
    for results in train_all({name: job}, {name: space}, shared, job.folder.parent, executor, observe):
        if results[name].status == "finished":
            found = load_network(job.folder, read_architecture(job.folder))
    return found


def adopt(job: Job, data: pl.LightningDataModule, earlier: Path) -> None:
    """Take over the parent that was fine-tuned in another folder, if it is the one that this job would train.

    Args:
        job: see :func:`parent_job`; nothing is done if it has begun.
        data: images.
        earlier: what :func:`tuned_parent` was given as ``run_dir``; it may be missing.
    """
    source = earlier / job.folder.name
    if job.folder.exists() or not (source / METRICS).exists():
        return
    different = different_parts(earlier, _describe(job, data))
    if different:
        log.warning(
            "the parent that was fine-tuned before the generation differs from this one (%s): it is fine-tuned again",
            ", ".join(different),
        )
        return
    unfinished = job.folder.with_name(f".{job.folder.name}{PART}")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(source, unfinished, ignore=shutil.ignore_patterns("*.ckpt"))
    unfinished.rename(job.folder)


def _describe(job: Job, data: pl.LightningDataModule) -> dict[str, Any]:
    """What the training of a parent depends on."""
    report = Report(job.space, "none", [job.candidate])
    return describe_job(report, report.candidates, job.task, job.recipe, job.network, job.seed, data, ())
