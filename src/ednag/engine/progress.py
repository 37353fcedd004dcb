"""Progress of a whole retraining: one bar over the epochs of all networks, above a quiet one for the network at hand."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import lightning.pytorch as pl
from tqdm.auto import tqdm

from ednag.retraining.results import METRICS
from ednag.retraining.training import TrainerFactory


class RetrainingBar:
    """A bar over the epochs of several trainings, with an estimate of the time that is left.

    Networks that had been trained before (the run is resumed) count as done, and not for the estimate; a network that
    was not planned, such as a baseline, makes the bar longer, and has the name of its folder.

    Args:
        folder: of the retraining.
        networks: how many are planned.
        epochs: of each.
        shown: whether there is a bar at all.
        name: what is trained, if it is one thing with a name; networks are numbered otherwise.
    """

    def __init__(self, folder: Path, networks: int, epochs: int, shown: bool, name: str = "") -> None:
        done = sum((folder / f"{rank:03d}" / METRICS).exists() for rank in range(1, networks + 1))
        self.networks, self.started, self.end, self.name = networks, done, done * epochs, name
        self.total = tqdm(
            total=networks * epochs,
            initial=self.end,
            desc=name or "retraining",
            unit=" epochs",
            disable=not shown,
            dynamic_ncols=True,
        )

    def __enter__(self) -> RetrainingBar:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; leave the bar where it is."""
        self.total.close()

    def watch(self, factory: TrainerFactory) -> TrainerFactory:
        """Let the trainings of the Trainers that a factory makes move the bar."""

        def make(*, folder: Path, max_epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
            return factory(
                folder=folder, max_epochs=max_epochs, callbacks=[*callbacks, self._network(folder, max_epochs)]
            )

        return make

    def _network(self, folder: Path, epochs: int) -> NetworkBar:
        """Begin with the next network: what an aborted one before it lacked is skipped."""
        baseline = folder.name.startswith("baseline_")
        self.started += not baseline
        self.total.n = self.end
        self.end += epochs
        self.networks = max(self.networks, self.started)
        self.total.total = max(self.total.total or 0, self.end)
        self.total.refresh()
        title = folder.name.replace("_", " ") if baseline else f"network {self.started} of {self.networks}"
        return NetworkBar(self.total, self.name or title)


class NetworkBar(pl.Callback):
    """Move the bar of a retraining by the epochs of one network, and on a terminal show its batches below.

    Args:
        total: the bar of the retraining.
        title: which network this is.
    """

    def __init__(self, total: tqdm[Any], title: str) -> None:
        self.total, self.title = total, title
        self.batches: tqdm[Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the epochs that were trained before an interruption; they say nothing of the pace."""
        if not self.total.disable:
            self.total.initial += trainer.current_epoch
            self.total.n += trainer.current_epoch
            self.total.set_description(self.title)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar of the epoch."""
        self.batches = tqdm(
            total=None if math.isinf(trainer.num_training_batches) else int(trainer.num_training_batches),
            desc=f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}",
            unit=" batches",
            disable=self.total.disable or not sys.stderr.isatty() or not trainer.is_global_zero,
            leave=False,
            dynamic_ncols=True,
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar of the epoch."""
        if self.batches is not None:
            self.batches.update()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move the bar of the retraining."""
        self._close()
        if "val/top1" in trainer.callback_metrics:
            self.total.set_postfix(
                {"valid top-1": f"{float(trainer.callback_metrics['val/top1']):.1f} %"}, refresh=False
            )
        self.total.update()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the bar of the epoch."""
        self._close()

    def _close(self) -> None:
        if self.batches is not None:
            self.batches.close()
            self.batches = None
