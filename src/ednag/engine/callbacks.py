"""Callbacks that run a generation or a retraining inside a Lightning Trainer."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from tqdm.auto import tqdm

from ednag.core.distributed import from_first
from ednag.core.fingerprint import settings
from ednag.core.manifest import manifest
from ednag.core.storage import write_csv, write_json
from ednag.engine.job_table import JobTable
from ednag.engine.reporting import finish
from ednag.engine.retraining import FOLDER, Retraining, train
from ednag.execution import Executor
from ednag.fitness import Fitness, MetaFitness
from ednag.generation.comparison import Comparison
from ednag.generation.figures import generation_figure
from ednag.generation.history import Row
from ednag.generation.measuring import Measuring
from ednag.generation.metrics import progress_rows
from ednag.generation.report import Report
from ednag.generation.run import Generation
from ednag.predictor.meta_predictor import MetaPredictor
from ednag.retraining.module import Recipe
from ednag.retraining.results import Summary
from ednag.samplers.presets import preset_of
from ednag.spaces.drawing import draw_architecture

log = logging.getLogger(__name__)


class GenerationCallback(pl.Callback):
    """Generate architectures on the trainer's device: in ``ednag generate``, or when a ``fit`` has ended.

    Where the trainer has several devices, each process generates with its share of the seeds, and the results are those
    of one process.

    Everything is written into the trainer's ``default_root_dir``: ``report.json``, ``history.csv``, ``manifest.json``,
    ``generation.png`` and ``state.pt``, from which a killed run continues; with an objective also ``front.csv``,
    ``front.png`` and ``front.svg``.

    Args:
        generation: what to generate, and how.
        data: images of the task, for a fitness that looks at them; if omitted, the trainer's own data module.
        executor: where architectures are evaluated, if each takes long (``Fitness.parallel``); in this process if omitted.
        asynchronous: see :meth:`Generation.run`.

    Examples:
        >>> from ednag.fitness import ZeroCostFitness
        >>> from ednag.samplers import RandomSearch
        >>> from ednag.spaces import NASBench201
        >>> generation = Generation(NASBench201(), ZeroCostFitness(["params"]), RandomSearch(), evaluations=20)
        >>> trainer = pl.Trainer(callbacks=[GenerationCallback(generation)], logger=False, accelerator="cpu")
    """

    def __init__(
        self,
        generation: Generation,
        data: pl.LightningDataModule | None = None,
        executor: Executor | None = None,
        asynchronous: bool = True,
    ) -> None:
        self.generation, self.data = generation, data
        self.executor, self.asynchronous = executor, asynchronous
        self.report: Report | None = None

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Generate."""
        self.run(trainer, pl_module.device)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget a generation with earlier weights."""
        (Path(trainer.default_root_dir) / "state.pt").unlink(missing_ok=True)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Generate with what has just been trained: a :class:`MetaFitness` serves that predictor."""
        fitness = self.generation.fitness
        if isinstance(fitness, MetaFitness) and isinstance(pl_module, MetaPredictor):
            fitness.attach(pl_module)
        with torch.inference_mode():
            self.run(trainer, pl_module.device)

    def run(self, trainer: pl.Trainer, device: torch.device) -> Report:
        """Generate on a device and write everything into the trainer's folder."""
        generation, folder = self.generation, Path(trainer.default_root_dir)
        begun = time.perf_counter()
        data = self.data or getattr(trainer, "datamodule", None)
        generation.setup(data, device)
        unit = "step" if generation.evaluations is None else "evaluations"
        with progress_bar(generation, trainer, unit) as bar, self._table(trainer, folder) as table:

            def observe(row: Row) -> None:
                heed_sigterm(trainer)
                show(bar, row, unit)
                for logger in trainer.loggers:
                    known = {f"generation/{name}": value for name, value in row.items() if not math.isnan(value)}
                    logger.log_metrics(known, int(row["step"]))

            state = generation.run(folder, observe, self._measuring(folder, table), self.asynchronous)
        self.report = from_first(lambda: generation.report(state))
        self._write(folder, trainer.loggers, state.archive.evaluated(), device, time.perf_counter() - begun)
        return self.report

    def _table(self, trainer: pl.Trainer, folder: Path) -> JobTable:
        """A table of what workers do."""
        shown = self.executor is not None and trainer.progress_bar_callback is not None and trainer.is_global_zero
        return JobTable("evaluating", folder, shown)

    def _measuring(self, folder: Path, table: JobTable) -> Callable[[Fitness], Measuring] | None:
        """What makes the fitness score on the executor, if there is one with workers and scores take long."""
        executor, fitness = self.executor, self.generation.fitness
        if executor is None or not executor.remote or not fitness.parallel:
            return None
        executor.check(folder)
        return lambda fitness: Measuring(fitness, executor, folder, table.show)

    @rank_zero_only
    def _write(self, folder: Path, loggers: Sequence[Logger], archive: Any, device: torch.device, took: float) -> None:
        generation, report = self.generation, self.report
        if report is None:
            return
        write_csv(folder / "history.csv", generation.history)
        generation_figure(archive, generation.history, generation.fitness.name, folder / "generation.png")
        seconds = {"generation": generation.seconds, "this_session": took}
        made = manifest(list(generation.seeds), device, report.counts, seconds, [generation])
        made["sampler"] = {"preset": preset_of(generation.sampler), **settings(generation.sampler)}
        write_json(folder / "manifest.json", made)
        space, best = generation.space, torch.tensor(report.candidates[0].genes)
        if any(space.edges(best).values()):
            draw_architecture(space, best, folder, "best")
        if generation.front is not None:
            generation.front.write(folder, archive, report)
        write_csv(folder / "progress.csv", progress_rows(archive))
        report.save(folder / "report.json")
        finish(folder, loggers)


class RetrainingCallback(pl.Callback):
    """Retrain what a :class:`GenerationCallback` has generated, when the fit that both belong to has ended.

    Everything is written into ``retrained`` below the trainer's ``default_root_dir``, as by ``ednag retrain``. Needs
    :class:`ednag.engine.trainer.Trainer`.

    Args:
        data: images to train, select and test on.
        recipe: how to train.
        top_k: how many architectures, the best first; all of the report's if omitted.
        network: options of the space's network.
        seed: of initial weights and of everything random in training.

    Examples:
        >>> from ednag.data import Digits
        >>> callback = RetrainingCallback(Digits(), Recipe(epochs=6), top_k=1)
    """

    def __init__(
        self,
        data: pl.LightningDataModule,
        recipe: Recipe | None = None,
        top_k: int | None = None,
        network: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.data, self.plan = data, Retraining(recipe, top_k, network, seed)
        self.summary: Summary | None = None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Retrain.

        Raises:
            ValueError: if no generation came before.
        """
        found = [c for c in trainer.callbacks if isinstance(c, GenerationCallback)]  # type: ignore[attr-defined]
        another = getattr(trainer, "another", None)
        if not found or found[-1].report is None or another is None:
            raise ValueError("RetrainingCallback needs a GenerationCallback before it, and EDNAG's own Trainer")
        self.summary = train(
            Path(trainer.default_root_dir) / FOLDER,
            found[-1].report,
            found[-1].generation.space,
            self.data,
            self.plan,
            another(inherit=False),
            shown=bool(getattr(trainer, "shows_progress", False)),
        )


class ComparisonCallback(pl.Callback):
    """Compare samplers on the trainer's devices, the seeds shared out over them; writes into ``default_root_dir``.

    Args:
        comparison: what to compare.
        data: images of the task, for a fitness that looks at them.
    """

    def __init__(self, comparison: Comparison, data: pl.LightningDataModule | None = None) -> None:
        self.comparison, self.data = comparison, data
        self.rows: list[dict[str, Any]] | None = None

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Compare."""
        comparison, folder, device = self.comparison, Path(trainer.default_root_dir), pl_module.device
        runs, samplers = len(comparison.seeds), len(comparison.samplers)
        silent = trainer.progress_bar_callback is None or not trainer.is_global_zero
        begun = time.perf_counter()
        with tqdm(total=runs * samplers, unit=" runs", disable=silent) as bar:

            def observe(name: str, more: int) -> None:
                heed_sigterm(trainer)
                bar.set_description(name)
                bar.update(more)

            outcomes = comparison.run(folder, self.data, device, observe)
        self.rows = comparison.rows(outcomes)
        if trainer.is_global_zero:
            comparison.save(folder, outcomes)
            counts = {"samplers": samplers, "runs": runs, "evaluations": comparison.evaluations}
            seconds = {"this_session": time.perf_counter() - begun}
            made = manifest(list(comparison.seeds), device, counts, seconds, [comparison])
            made["samplers"] = {name: settings(sampler) for name, sampler in comparison.samplers.items()}
            write_json(folder / "manifest.json", made)
            finish(folder, trainer.loggers)


def heed_sigterm(trainer: pl.Trainer) -> None:
    """Raise if SIGTERM was received; Lightning checks only between batches.

    Raises:
        SIGTERMException: then.
    """
    if trainer.received_sigterm:
        raise SIGTERMException


def progress_bar(generation: Generation, trainer: pl.Trainer, unit: str) -> tqdm[Any]:
    """Make a progress bar over ``step`` or ``evaluations``, silent where the trainer's bars are off."""
    return tqdm(
        total=generation.sampler.steps if unit == "step" else generation.evaluations,
        desc="generating",
        unit=f" {unit}",
        disable=trainer.progress_bar_callback is None or not trainer.is_global_zero,
        dynamic_ncols=True,
    )


def show(bar: tqdm[Any], row: Row, unit: str) -> None:
    """Move a progress bar, over ``step`` or ``evaluations``, to a row of the history."""
    shown = {name: f"{row[name]:.4g}" for name in ("best", "mean") if not math.isnan(row[name])}
    shown |= {name: f"{row[name]:.0%}" for name in ("valid", "unique")}
    shown |= {name: f"{row[name]:.0f}" for name in ("violators", "measured") if row.get(name)}
    bar.set_postfix(shown, refresh=False)
    bar.update(int(row[unit]) - bar.n)
