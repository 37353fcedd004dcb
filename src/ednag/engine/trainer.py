"""Lightning's Trainer with the verbs of EDNAG."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from torch import Tensor
from torch.utils.data import DataLoader

from ednag.costs.model import CostModel, Limits
from ednag.costs.objective import Objective
from ednag.data import import_data_modules
from ednag.engine.another import Another
from ednag.engine.callbacks import ComparisonCallback, GenerationCallback
from ednag.engine.collecting import run_collection
from ednag.engine.loggers import logger_maker
from ednag.engine.retraining import FOLDER, Retraining, inherit_tuned, retrain_in, trainings
from ednag.engine.workers import ready
from ednag.execution import Executor, InProcess
from ednag.fitness import Fitness, ProbeFitness
from ednag.fitness.choice import default_fitness
from ednag.fitness.training import Budget
from ednag.generation.collection import Collection, Plan
from ednag.generation.comparison import Comparison
from ednag.generation.estimate import estimate
from ednag.generation.report import Report
from ednag.generation.run import Generation
from ednag.predictor.budgets import PlannedTraining
from ednag.retraining.module import Recipe
from ednag.retraining.parent import comes_first
from ednag.retraining.results import Summary
from ednag.retraining.training import TrainerFactory
from ednag.samplers import Sampler
from ednag.samplers.presets import load_preset
from ednag.samplers.priors import informed
from ednag.spaces import SearchSpace

import_data_modules()


class Seeds(pl.LightningModule):
    """A placeholder model for a generation: it has no weights and returns the seeds it is given."""

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the seeds."""
        return batch


class Trainer(pl.Trainer):
    """Lightning's Trainer, and :meth:`generate` and :meth:`retrain`.

    All results of a verb go into ``default_root_dir``. The arguments are Lightning's.

    Examples:
        >>> from ednag.fitness import ZeroCostFitness
        >>> from ednag.spaces import NASBench201
        >>> trainer = Trainer(logger=False, accelerator="cpu", devices=1)
        >>> plan = trainer.generate(space=NASBench201(), fitness=ZeroCostFitness(["params"]), evaluations=10, dry_run=True)
    """

    callbacks: list[pl.Callback]
    summary: Summary | None = None
    """Of the retraining that followed a generation, if one did."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = [name for name in inspect.signature(pl.Trainer.__init__).parameters if name != "self"]
        self._arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        super().__init__(*args, **kwargs)

    def generate(
        self,
        model: pl.LightningModule | None = None,
        datamodule: pl.LightningDataModule | None = None,
        *,
        space: SearchSpace,
        fitness: Fitness | None = None,
        sampler: Sampler | None = None,
        runs: int = 1,
        seed: int = 0,
        evaluations: int | None = None,
        top_k: int = 5,
        max_params: float | None = None,
        max_flops: float | None = None,
        max_latency_ms: float | None = None,
        cost: CostModel | None = None,
        objective: Objective | None = None,
        reference: tuple[float, float] | None = None,
        distinct: Literal["isomorphism", "genes"] | None = None,
        knowledge: bool = False,
        budget: PlannedTraining | None = None,
        dry_run: bool = False,
        retrain: bool = False,
        retraining: Retraining | None = None,
        executor: Executor | None = None,
        asynchronous: bool = True,
    ) -> Report | str:
        """Generate architectures from noise.

        Args:
            model: not used.
            datamodule: images of the task, for a fitness that looks at them.
            space: where architectures come from.
            fitness: the score to maximise. If omitted, what benchmark tables of other data sets teach (KnowledgeFitness), or in
                other spaces proxies on the images.
            sampler: the method; ``--preset`` chooses one by name, the preset ``default`` if none is given.
            runs: independent runs, advanced together.
            seed: seed of the first run; the others follow consecutively.
            evaluations: distinct architectures each run may evaluate; the sampler's own end if not given.
            top_k: distinct architectures in the report; with an objective, the front is reported whole.
            max_params: most parameters of the network.
            max_flops: most multiply-accumulates for one image.
            max_latency_ms: most milliseconds per batch, see ``cost``.
            cost: how costs are counted or measured.
            objective: cost to trade fitness off against: parameters, multiply-accumulates of one image (``flops``), or
                milliseconds per batch (see ``cost``). The report holds the Pareto front then; use with ParetoDiffusion.
            reference: cost and fitness of a reference point for the hypervolume of the front.
            distinct: what counts as one architecture, and is evaluated once in a run: classes of isomorphic ones, or every
                gene string. If omitted, isomorphism; genes with an objective.
            knowledge: let what benchmark tables of other data sets say lead the sampler (KnowledgeFitness as one of its
                priors), beside a fitness that measures.
            budget: the training that is planned for what is found, where tables teach (no fitness, or ``knowledge``). If
                omitted, that of ``retraining`` on the images, without a fitness.
            dry_run: return the plan and what it would cost, and run nothing.
            retrain: go on to retrain what was found, in the same run directory (:attr:`summary` has the results).
            retraining: settings of that retraining, see ``retrain``.
            executor: where trainings run, those of TrainingFitness and of ``retrain``: in this process if omitted.
            asynchronous: with several workers and one run, let the sampler go on while trainings are under way; what is
                found then depends on which ends first. If false, each round is waited for, and nothing depends on the workers.

        Raises:
            ValueError: if there is neither a fitness, nor a table of that space, nor images; or no images to retrain with;
                or a budget that nothing asks for.
        """
        self._refuse_epochs("generate", "--evaluations says how long it goes on")
        if retrain and datamodule is None:
            raise ValueError("retrain needs images: --data CIFAR10 (or CIFAR100, ImageFolder, Digits, a class path)")
        if budget is not None and fitness is not None and not knowledge:
            raise ValueError(
                "budget is for knowledge of other data sets: leave --fitness out, or add --knowledge; "
                "a MetaFitness has one of its own, --fitness.budget.epochs"
            )
        retraining = retraining or Retraining()
        if fitness is None:
            planned = retraining.budget() if budget is None and datamodule is not None else budget
            fitness = default_fitness(space, datamodule, planned)
        sampler = sampler or load_preset("default")
        generation = Generation(
            space,
            fitness,
            informed(sampler, budget) if knowledge else sampler,
            seeds_of(runs, seed),
            evaluations,
            top_k,
            Limits(max_params, max_flops, max_latency_ms),
            cost or CostModel(),
            objective,
            reference,
            distinct,
        )
        generation.refuse_hopeless(datamodule)
        tuned = isinstance(fitness, ProbeFitness) and comes_first(space, retraining.recipe)
        if dry_run:
            before, after = trainings(retraining, tuned, retrain)
            return "\n".join([*before, estimate(generation, datamodule, self.strategy.root_device), *after])
        folder = Path(self.default_root_dir)
        executor = ready(self, executor, fitness, trains=retrain or tuned)
        if isinstance(fitness, ProbeFitness) and datamodule is not None and comes_first(space, retraining.recipe):
            inherit_tuned(fitness, folder, self, space, datamodule, retraining, executor)
        callback = GenerationCallback(generation, datamodule, executor, asynchronous)
        self._with_seeds(callback, generation.seeds)
        if callback.report is None:
            raise RuntimeError("the generation was interrupted; continue it with --resume RUN")
        if retrain:
            self.summary = retrain_in(
                folder / FOLDER, self, callback.report, datamodule, retraining, executor, source=folder
            )
        return callback.report

    def compare(
        self,
        model: pl.LightningModule | None = None,
        datamodule: pl.LightningDataModule | None = None,
        *,
        space: SearchSpace,
        fitness: Fitness,
        samplers: dict[str, Sampler],
        evaluations: int,
        runs: int = 100,
        seed: int = 0,
        checkpoints: list[int] = [50, 100, 200],  # noqa: B006 (shown as the default on the command line)
        together: int = 250,
    ) -> list[dict[str, Any]]:
        """Compare samplers on one problem, with the same seeds and the same budget.

        Args:
            model: not used.
            datamodule: images of the task, for a fitness that looks at them.
            space: where architectures come from.
            fitness: the score to maximise.
            samplers: by name; the first one is what the others are tested against.
            evaluations: distinct architectures each run may evaluate.
            runs: runs of each sampler.
            seed: seed of the first run; the others follow consecutively.
            checkpoints: numbers of evaluations at which success and regret are reported.
            together: runs that advance in one batch; bounds memory.
        """
        self._refuse_epochs("compare", "--evaluations says how long it goes on")
        comparison = Comparison(space, fitness, samplers, seeds_of(runs, seed), evaluations, checkpoints, together)
        callback = ComparisonCallback(comparison, datamodule)
        self._with_seeds(callback, comparison.seeds)
        if callback.rows is None:
            raise RuntimeError("the comparison was interrupted; continue it with --resume RUN")
        return callback.rows

    def collect(
        self,
        model: pl.LightningModule | None = None,
        datamodule: pl.LightningDataModule | None = None,
        *,
        space: SearchSpace,
        sampler: Sampler,
        sources: dict[str, pl.LightningDataModule],
        tasks: dict[str, int] | int = 10,
        architectures: int = 20,
        streams: int = 40,
        images: dict[str, int] = {"train": 1000, "val": 1000, "test": 1000},  # noqa: B006
        image_size: int = 16,
        most_classes: int = 20,
        budget: Budget | None = None,
        network: dict[str, int] | None = None,
        seed: int = 0,
        executor: Executor | None = None,
    ) -> dict[str, Any]:
        """Collect meta data: train architectures briefly on many small tasks.

        Args:
            model: not used.
            datamodule: not used, see ``sources``.
            space: where architectures come from.
            sampler: picks each task's next architectures from its results so far.
            sources: image data sets, by name, of whose classes tasks are made.
            tasks: how many of each source; one number for all, or one for each.
            architectures: distinct ones of each task.
            streams: tasks cycle through this many seeds of the sampler; those of equal seed begin with the same ones.
            images: most images of each split of a task.
            image_size: side of the images in pixels.
            most_classes: most classes of a task.
            budget: of each training.
            network: options of the space's networks.
            seed: of everything random.
            executor: where trainings run: in this process if omitted.
        """
        self._refuse_epochs("collect", "--budget.steps says how long a network is trained")
        plan = Plan(space, sampler, architectures, streams, budget or Budget(), network or {}, seed)
        begun, folder = time.perf_counter(), Path(self.default_root_dir)
        collection = Collection(folder, plan)
        if executor is not None and not (folder / "tasks.json").exists():
            executor.check(folder)  # before images are read
        collection.prepare(sources, tasks, images, image_size, most_classes, seed)
        return run_collection(collection, self, executor or InProcess(), begun)

    def _refuse_epochs(self, verb: str, instead: str) -> None:
        if self.max_epochs_asked is not None:
            raise ValueError(f"{verb} has no epochs, got trainer.max_epochs {self.max_epochs_asked}; {instead}")

    def _with_seeds(self, callback: pl.Callback, seeds: Sequence[int]) -> None:
        """Let a callback work with seeds on the devices of this Trainer, each of which gets a share."""
        if len(seeds) < self.world_size:
            raise ValueError(
                f"{self.world_size} devices need at least as many runs to share, got {len(seeds)}; "
                f"give --runs {self.world_size} or more, or --trainer.devices {len(seeds)}"
            )
        loader: DataLoader[int] = DataLoader(list(seeds), batch_size=len(seeds))  # type: ignore[arg-type]
        self.callbacks.append(callback)
        lightning_bar = self.progress_bar_callback
        if lightning_bar is not None:
            lightning_bar.disable()  # the callback has one of its own
        try:
            self.predict(Seeds(), loader, return_predictions=False)
        finally:
            self.callbacks.remove(callback)  # another call, or a fit, must not do this again
            if lightning_bar is not None:
                lightning_bar.enable()

    def retrain(
        self,
        model: pl.LightningModule | None = None,
        datamodule: pl.LightningDataModule | None = None,
        *,
        report: Path,
        recipe: Recipe | None = None,
        top_k: int | None = None,
        network: dict[str, Any] | None = None,
        seed: int = 0,
        baselines: bool = False,
        report_images: bool = True,
        executor: Executor | None = None,
    ) -> Summary:
        """Build the best architectures of a report and train them for real.

        Args:
            model: not used; the networks come from the report.
            datamodule: images to train, select and test on.
            report: ``RUN/report.json`` of ``ednag generate``.
            recipe: how to train.
            top_k: how many architectures, the best first; all of the report's if not given.
            network: options of the space's network, such as ``{"channels": 16, "cells": 5}``.
            seed: of initial weights and of everything random in training.
            baselines: also train what the networks are to be held against: their parent, where they inherit weights, a
                thin ResNet of equal cost from scratch, and random members of the space.
            report_images: show small pictures of the worst mistakes in the report.
            executor: where trainings run: in this process if omitted.

        Raises:
            ValueError: if there are no images, or ``max_epochs`` was set instead of the recipe's epochs.
        """
        plan = Retraining(recipe, top_k, network, seed, baselines, report_images)
        found, source = Report.load(report), Path(report).parent
        return retrain_in(Path(self.default_root_dir), self, found, datamodule, plan, executor, source)

    @property
    def max_epochs_asked(self) -> int | None:
        """``max_epochs`` as given to this Trainer, if it was."""
        return self._arguments.get("max_epochs")

    @property
    def shows_progress(self) -> bool:
        """Whether bars are on, and this is the process that draws them."""
        return self.progress_bar_callback is not None and self.is_global_zero

    def another(self, inherit: bool = True) -> TrainerFactory:
        """Return what makes fresh Trainers like this one, each with its own folder, for the networks of a retraining.

        Args:
            inherit: whether to copy this trainer's callbacks and validation interval.
        """
        arguments = {name: value for name, value in self._arguments.items() if name != "logger"}
        folder = Path(self.default_root_dir)
        return Another(arguments, [logger_maker(logger, folder) for logger in self.loggers], inherit)


MOST_RUNS = 100_000
"""Runs that one generation or comparison may have: each keeps a random stream and an archive in memory."""


def seeds_of(runs: int, seed: int) -> range:
    """Return consecutive seeds.

    Raises:
        ValueError: if there are none or too many, or one is negative.
    """
    if not 1 <= runs <= MOST_RUNS or seed < 0:
        raise ValueError(f"need runs >= 1 (at most {MOST_RUNS:,}) and seed >= 0, got runs={runs} and seed={seed}")
    return range(seed, seed + runs)
