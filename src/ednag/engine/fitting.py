"""What lets ``ednag fit`` be killed at any moment, within the fit or after it, and go on to the same result."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from ednag.core.reading import check_archive
from ednag.retraining.progress import LAST, save_checkpoint
from ednag.retraining.randomness import fetch_anew, random_state, restore_random_state

FITTED = "fitted.ckpt"
"""The checkpoint of a fit that has ended: what its callbacks do afterwards needs no training again."""


class FitProgress(pl.Callback):
    """Save ``last.ckpt`` after each epoch and ``fitted.ckpt`` at the end, with all random numbers; resume from them.

    :meth:`attach` puts it where it must be among a trainer's callbacks.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.saver = _EpochSaver(self)
        self._random: dict[str, Any] | None = None
        self._saved: dict[str, Any] = {"random": None}
        self._trained = False

    def attach(self, trainer: pl.Trainer) -> None:
        """Watch a trainer: first of all when the fit has ended, last of all when an epoch has.

        Checkpoints of the user's go to one place, so that a resumed fit still knows the best.
        """
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str((self.folder / "checkpoints").absolute())
        trainer.callbacks.insert(0, self)  # type: ignore[attr-defined]
        trainer.callbacks.append(self.saver)  # type: ignore[attr-defined]

    def checkpoint(self) -> Path | None:
        """Where a resumed fit goes on; ``None`` where it had saved nothing."""
        found = next((self.folder / name for name in (FITTED, LAST) if (self.folder / name).exists()), None)
        if found is not None:
            check_archive(
                found, "the checkpoint of a fit", "delete it to go on from an earlier one, or from the beginning"
            )
        return found

    def state_dict(self) -> dict[str, Any]:
        """What the checkpoint at hand holds: the run's folder, all random numbers, and after the end the metrics."""
        return {"folder": str(self.folder.absolute()), **self._saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the random numbers until the first epoch begins."""
        self._random = state_dict["random"]

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Find other callbacks' files where the folder is now, if it was moved; train no more if the fit has ended.

        Raises:
            ValueError: if it has ended, and is to be of another length now.
        """
        states = checkpoint["callbacks"]
        own = states.get(self.state_key, {})
        before, now = own.get("folder"), str(self.folder.absolute())
        if before and before != now:
            checkpoint["callbacks"] = _moved(states, before, now)
        if "metrics" not in own:
            return
        if own["max_epochs"] != trainer.max_epochs:
            raise ValueError(f"this fit has ended, with max_epochs={own['max_epochs']}; start another to train longer")
        trainer.should_stop = True
        trainer.callback_metrics.update(own["metrics"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that there is something to train."""
        self._trained = True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue the random numbers of a fit that was killed."""
        if self._random is not None:
            restore_random_state(trainer, self._random)
            fetch_anew(trainer)
            self._random = None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what was fitted, before other callbacks go on with it."""
        if self._trained:
            metrics = {name: value.detach().cpu() for name, value in trainer.callback_metrics.items()}
            self.save(trainer, FITTED, metrics=metrics, max_epochs=trainer.max_epochs)

    def save(self, trainer: pl.Trainer, name: str, **more: Any) -> None:
        """Save a checkpoint with all random numbers."""
        self._saved = {"random": random_state(trainer), **more}
        save_checkpoint(trainer, self.folder / name)


class _EpochSaver(Checkpoint):
    """Saves when all other callbacks have seen the end of the epoch: Lightning calls checkpoints last."""

    def __init__(self, progress: FitProgress) -> None:
        self._progress = progress

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the finished epoch, but for the last one: what follows it at once is saved in its place."""
        steps, epochs = trainer.max_steps, trainer.max_epochs
        last = epochs is not None and 0 <= epochs <= trainer.current_epoch + 1
        if not (last or trainer.should_stop or 0 <= steps <= trainer.global_step):
            self._progress.save(trainer, LAST)


def _moved(value: Any, before: str, now: str) -> Any:
    """Replace a folder at the beginning of paths, in values and keys, however deeply nested."""
    if isinstance(value, str):
        return now + value[len(before) :] if value == before or value.startswith(before + os.sep) else value
    if isinstance(value, dict):
        return {_moved(name, before, now): _moved(item, before, now) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_moved(item, before, now) for item in value)
    return value
