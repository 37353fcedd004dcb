"""Resumable training: one atomic checkpoint per epoch."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from ednag.core.reading import reading
from ednag.core.storage import PART, load_state, save_state
from ednag.data.module import epoch_seed
from ednag.retraining.randomness import fetch_anew

LAST = "last.ckpt"
"""The checkpoint of the last finished epoch."""

BEST = "best.ckpt"
"""The weights that are kept, where the recipe asks for others than the last; of the ``likeliest``, those before training."""

SHARES = (0.75, 0.5, 0.25)
"""Mixtures of the weights before and after a training that are tried, by the share of those after it."""

Weights = Literal["last", "best", "better", "likeliest"]
"""Which weights are kept, see :class:`ednag.retraining.module.Recipe`."""


class EpochCheckpoint(Checkpoint):
    """Save after every epoch, keep the time, and seed the global random numbers (dropout, drop-path) by the epoch.

    Lightning writes a checkpoint to the system's temporary folder and moves it, which is not atomic across file systems.
    Here it is written next to its final place, flushed to disk, and renamed.

    Args:
        folder: where ``last.ckpt`` (and ``best.ckpt``) go.
        seed: of the training.
        weights: which to keep by ``val/top1``; ``last.ckpt`` is kept always.

    Attributes:
        seconds: spent training, over all interrupted parts, without validation.
        images: training images seen.
        epochs: finished epochs.
        start: validation metrics of the weights that training began with, where they were good for something.
    """

    def __init__(self, folder: Path, seed: int, weights: Weights = "last") -> None:
        self.folder = Path(folder)
        self.seed = seed
        self.weights = weights
        self.seconds = 0.0
        self.images = 0
        self.epochs = 0
        self.best = -1.0
        self.start: dict[str, float] = {}
        self._started: float | None = None
        self._resumed = False

    def begin(self, classifier: pl.LightningModule, metrics: Mapping[str, float]) -> None:
        """Count the weights before training as an epoch, the best so far."""
        self.start = dict(metrics)
        if self.weights != "last":
            self.best = metrics["val/top1"]
            save_state(self.folder / BEST, {"state_dict": classifier.state_dict()})

    def candidates(self, last: Mapping[str, Tensor]) -> list[Mapping[str, Tensor]]:
        """Return the weights of which those with the least validation loss are kept: mostly there is no choice.

        Args:
            last: the weights that a training has ended with.
        """
        if self.weights == "last" or not (self.folder / BEST).exists():
            return [last]
        noted: dict[str, Tensor] = load_state(self.folder / BEST)["state_dict"]
        if self.weights != "likeliest":
            return [noted]
        last = {name: value.clone() for name, value in last.items()}
        return [last, *(mixed(noted, last, share) for share in SHARES), noted]

    def state_dict(self) -> dict[str, Any]:
        """Counts so far, as primitives."""
        names = ("seconds", "images", "epochs", "best", "start")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the counts."""
        self.seconds, self.images = state_dict["seconds"], state_dict["images"]
        self.epochs, self.best = state_dict["epochs"], state_dict["best"]
        self.start = state_dict.get("start", {})
        self._resumed = True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed the epoch and start the clock."""
        torch.manual_seed(epoch_seed(self.seed, trainer.current_epoch))
        if self._resumed:
            fetch_anew(trainer)
            self._resumed = False
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count images."""
        self.images += len(batch[1]) * trainer.world_size

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        if not trainer.sanity_checking:
            self._stop()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the finished epoch."""
        self._stop()
        self.epochs = trainer.current_epoch + 1
        score = float(trainer.callback_metrics.get("val/top1", -1.0))
        last = self.epochs == trainer.max_epochs
        if score > self.best if self.weights == "best" else self.weights == "better" and last and score >= self.best:
            self.best = score
            save_checkpoint(trainer, self.folder / BEST)
        save_checkpoint(trainer, self.folder / LAST)

    def _stop(self) -> None:
        if self._started is not None:
            self.seconds += time.perf_counter() - self._started
            self._started = None


def mixed(before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Mix weights one by one: ``share`` of those after a training, the rest of those before; what is no float is after's."""
    return {
        name: value.to(after[name]).lerp(after[name], share) if value.is_floating_point() else after[name]
        for name, value in before.items()
    }


def save_checkpoint(trainer: pl.Trainer, path: Path) -> None:
    """Write a checkpoint beside its place, flush it, and rename it. Collective."""
    part = path.with_name(f".{path.name}{PART}")
    try:
        trainer.save_checkpoint(part)
        if trainer.is_global_zero:
            with part.open("rb") as stream:
                os.fsync(stream.fileno())
            part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


PARTS = {
    *("state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers", "epoch", "global_step"),
    "pytorch-lightning_version",
}
"""What a checkpoint that a training goes on from must have."""


def read_checkpoint(path: Path, kind: str, remedy: str) -> dict[str, Any]:
    """Read a checkpoint that a training is to go on from.

    Raises:
        ValueError: if it is damaged, or of another version of this program that wrote other parts.
    """
    with reading(path, kind, remedy):
        found = load_state(path, remedy=remedy)
        if lost := PARTS - set(found):
            raise ValueError(f"no {min(lost)}; an earlier version may have written it")
        return found
