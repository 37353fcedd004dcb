"""Retraining in a folder, with what a Trainer knows: its callbacks, loggers and device."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl

from ednag.core.manifest import manifest
from ednag.core.storage import write_json
from ednag.engine.job_table import JobTable, Noting
from ednag.engine.progress import RetrainingBar
from ednag.engine.reporting import finish, reopened
from ednag.engine.workers import alone
from ednag.execution import Executor
from ednag.execution.base import Observer
from ednag.fitness import ProbeFitness
from ednag.generation.report import Report
from ednag.predictor.budgets import PlannedTraining
from ednag.retraining.job import retrain
from ednag.retraining.module import Recipe
from ednag.retraining.parent import PARENT, tuned_parent
from ednag.retraining.results import Summary
from ednag.retraining.supernet import SupernetWeights
from ednag.retraining.training import TrainerFactory
from ednag.spaces import SearchSpace
from ednag.spaces.inheritance import InheritingSpace
from ednag.spaces.inverted_residual import InvertedResidualNetwork

if TYPE_CHECKING:
    from ednag.engine.trainer import Trainer

FOLDER = "retrained"
"""Where a run directory holds the retraining that followed its generation."""


@dataclass(frozen=True)
class Retraining:
    """What to do with a report.

    Attributes:
        recipe: how to train; the default recipe if omitted.
        top_k: how many architectures, the best first; all of the report's if omitted.
        network: options of the space's network.
        seed: of initial weights and of everything random in training.
        baselines: whether to train what the networks are to be held against as well.
        report_images: whether the report shows small pictures of the worst mistakes.
    """

    recipe: Recipe | None = None
    top_k: int | None = None
    network: dict[str, Any] | None = None
    seed: int = 0
    baselines: bool = False
    report_images: bool = True

    def budget(self) -> PlannedTraining:
        """What these settings plan for each network; its size is that of NAS-Bench-201 unless they say otherwise."""
        sizes = {name: int(value) for name, value in (self.network or {}).items() if name in ("channels", "cells")}
        return PlannedTraining(max((self.recipe or Recipe()).epochs, 1), **sizes)


def trainings(plan: Retraining, tuned: bool, retrained: bool) -> tuple[list[str], list[str]]:
    """Say what is trained before a generation and after it, which its cost doesn't include; no lines for nothing.

    Args:
        plan: settings.
        tuned: whether a parent is fine-tuned first.
        retrained: whether a retraining follows.
    """
    epochs = max((plan.recipe or Recipe()).epochs, 1)
    networks = (
        "what is reported is"
        if plan.top_k is None
        else "1 network is"
        if plan.top_k == 1
        else f"{plan.top_k} networks are"
    )
    more = ", and what they are held against" if plan.baselines else ""
    before = f"{'first':<12} the parent is fine-tuned for {epochs} epochs (not in the cost below)"
    after = f"{'then':<12} {networks} trained for {epochs} epochs{more} (not in the cost above)"
    return [before] * tuned, [after] * retrained


UNSUITED = (
    pl.callbacks.LearningRateFinder,
    pl.callbacks.BatchSizeFinder,
    pl.callbacks.StochasticWeightAveraging,
    pl.callbacks.Timer,
    pl.callbacks.BaseFinetuning,
    pl.callbacks.ModelPruning,
    pl.callbacks.WeightAveraging,
)
"""Callbacks that interfere with a recipe."""


def train(
    folder: Path,
    report: Report,
    space: SearchSpace,
    data: pl.LightningDataModule,
    plan: Retraining,
    make_trainer: TrainerFactory,
    shown: bool,
    supernets: Sequence[Mapping[str, Any]] = (),
    executor: Executor | None = None,
    earlier: Path | None = None,
) -> Summary:
    """Train the best architectures of a report under one progress bar, if it is ``shown``; see :func:`retrain`.

    Of an executor with workers, a table of what they do is shown instead.
    """
    recipe, planned = plan.recipe or Recipe(), len(report.candidates[: plan.top_k])
    with _watched(folder, planned, recipe.epochs, make_trainer, shown, executor) as (make_trainer, observe):
        return retrain(
            report,
            space,
            data,
            recipe,
            folder,
            make_trainer,
            top_k=plan.top_k,
            network=plan.network,
            seed=plan.seed,
            supernets=supernets,
            baselines=plan.baselines,
            report_images=plan.report_images,
            executor=executor,
            observe=observe,
            earlier=earlier,
        )


@contextmanager
def _watched(
    folder: Path,
    networks: int,
    epochs: int,
    make_trainer: TrainerFactory,
    shown: bool,
    executor: Executor | None,
    name: str = "",
) -> Iterator[tuple[TrainerFactory, Observer | None]]:
    """Show what trains: a bar over all epochs in this process, a table of what workers do elsewhere."""
    if executor is not None and executor.remote:
        with JobTable("retraining", folder, shown) as table:
            yield Noting(make_trainer), table.show
    else:
        with RetrainingBar(folder, networks, epochs, shown, name) as bar:
            yield bar.watch(make_trainer), None


def inherit_tuned(
    fitness: ProbeFitness,
    run_dir: Path,
    trainer: Trainer,
    space: InheritingSpace,
    data: pl.LightningDataModule,
    plan: Retraining,
    executor: Executor | None = None,
) -> None:
    """Fine-tune the parent of a space before a generation, and let a probe judge what is cut out of it.

    Args:
        fitness: not set up yet; it keeps the space's own weights if the training fails.
        run_dir: of the generation; the parent gets a folder of its own in it.
        trainer: made like this one for the parent.
        space: whose networks are cut out of it.
        data: images to train and select on.
        plan: how sub-networks will be trained.
        executor: where to train; in this process if omitted.
    """
    recipe, folder, executor = plan.recipe or Recipe(), run_dir / PARENT, alone(trainer, executor)
    name, shown = "fine-tuning the parent", trainer.shows_progress
    with _watched(folder, 1, recipe.epochs, trainer.another(), shown, executor, name) as (make_trainer, observe):
        network = tuned_parent(space, data, recipe, folder, make_trainer, plan.network, plan.seed, executor, observe)
    if isinstance(network, InvertedResidualNetwork):
        fitness.inherit(space.parent().trained(network))


def retrain_in(
    folder: Path,
    trainer: Trainer,
    report: Report,
    data: pl.LightningDataModule | None,
    plan: Retraining,
    executor: Executor | None = None,
    source: Path | None = None,
) -> Summary:
    """Retrain a report's best architectures.

    Args:
        folder: of the retraining; the report is written there as well, so that the run can be resumed without it.
        trainer: made like this one for each architecture.
        report: of a generation.
        data: images to train, select and test on.
        plan: what to train, and how.
        executor: where; in this process if omitted.
        source: run directory of the generation, whose parent is taken over if it fine-tuned one.

    Raises:
        ValueError: if there are no images, ``max_epochs`` or ``max_steps`` was set in place of the recipe's epochs, a callback of the
            trainer interferes with the recipe, or no batch is to be trained on.
    """
    if data is None:
        raise ValueError("retrain needs images: --data CIFAR10 (or CIFAR100, ImageFolder, Digits, a class path)")
    if unsuited := [type(c).__name__ for c in trainer.callbacks if isinstance(c, UNSUITED)]:
        raise ValueError(
            f"{unsuited[0]} changes how long, how fast or what a network learns, which the recipe says; leave it out"
        )
    if trainer.max_epochs_asked is not None:
        raise ValueError(
            f"trainer.max_epochs is {trainer.max_epochs_asked}, but the recipe says how long a network is trained: "
            "use --recipe.epochs"
        )
    if (steps := trainer._arguments.get("max_steps", -1)) >= 0:
        raise ValueError(
            f"trainer.max_steps is {steps}, but the recipe says how long a network is trained: use --recipe.epochs"
        )
    if trainer.limit_train_batches == 0:
        raise ValueError(
            "trainer.limit_train_batches is 0: nothing would be trained; leave it out, or give a number above 0"
        )
    begun = time.perf_counter()
    report.save(folder / "report.json")  # the run is resumed from here, wherever it and the generation have gone
    supernets = [weights.provenance() for weights in trainer.callbacks if isinstance(weights, SupernetWeights)]
    summary = train(
        folder,
        report,
        report.load_space(),
        data,
        plan,
        trainer.another(),
        trainer.shows_progress,
        supernets,
        alone(trainer, executor),
        None if source is None else source / PARENT,
    )
    finished = [result for result in summary.results if result.status == "finished"]
    counts = {"architectures": len(summary.results), "finished": len(finished)}
    seconds = {"training": sum(result.seconds for result in finished), "this_session": time.perf_counter() - begun}
    made = manifest([plan.seed], trainer.strategy.root_device, counts, seconds)
    write_json(folder / "manifest.json", {**made, **({"supernets": supernets} if supernets else {})})
    finish(folder, [reopened(logger) for logger in trainer.loggers])
    return summary
