"""What lets ``ednag fit`` be killed at any moment, within the fit or after it, and go on to the same result."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from ednag.data.digests import differing, identity
from ednag.engine.retraining import FOLDER as RETRAINED
from ednag.retraining.progress import LAST, read_checkpoint, save_checkpoint
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
        self._data: dict[str, Any] | None = None
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

    def checkpoint(self, trainer: pl.Trainer) -> Path | None:
        """Where a resumed fit goes on; ``None`` where it had saved nothing.

        A fit that has ended and is to be longer takes its last epoch again: its model may have changed at the end.

        Raises:
            ValueError: if a checkpoint is damaged, or an ended fit can't become what a longer one would have been.
        """
        last, fitted = (path if path.exists() else None for path in (self.folder / LAST, self.folder / FITTED))
        remedy = "delete it to go on from an earlier one, or from the beginning"
        if last is not None:
            read_checkpoint(last, "the checkpoint of a fit", remedy)
        if fitted is None:
            return last
        checkpoint = read_checkpoint(fitted, "the checkpoint of a fit", remedy)
        own = checkpoint.get("callbacks", {}).get(self.state_key, {})
        if "metrics" not in own or not goes_on(checkpoint, own, trainer):
            return fitted
        if any(not _LENGTHLESS & schedule.keys() for schedule in checkpoint["lr_schedulers"]):
            raise ValueError(
                f"this fit has ended, and its learning rate followed a schedule for max_epochs={own['max_epochs']}; start "
                "another to train longer"
            )
        if (self.folder / RETRAINED).exists():
            raise ValueError(
                f"this fit has ended, and {self.folder / RETRAINED} holds networks of what it generated; start another to "
                "train longer"
            )
        return last

    def state_dict(self) -> dict[str, Any]:
        """What the checkpoint at hand holds: the run's folder, all random numbers, and after the end the metrics."""
        return {"folder": str(self.folder.absolute()), **self._saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the random numbers until the first epoch begins."""
        self._random = state_dict.get("random")

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Find other callbacks' files where the folder is now, if it was moved; train no more if the fit has ended.

        Raises:
            ValueError: if it has ended, and is to be longer now: that goes on from another checkpoint.
        """
        states = checkpoint["callbacks"]
        own = states.get(self.state_key, {})
        before, now = own.get("folder"), str(self.folder.absolute())
        if before and before != now:
            checkpoint["callbacks"] = _moved(states, before, now)
        if (known := own.get("data")) is not None:
            self._data = _seen(trainer)
            if known != self._data:
                raise ValueError(
                    "the data, or how they are read, are not those that this fit was begun with (different: "
                    f"{differing(known, self._data or {})}); resume it with the same ones, or start another"
                )
        if "metrics" not in own:
            return
        if goes_on(checkpoint, own, trainer):
            raise ValueError(f"this is the end of a fit; go on from {self.folder / LAST} to train longer")
        trainer.should_stop = True
        trainer.callback_metrics.update(own["metrics"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that there is something to train, and on what."""
        self._trained = True
        self._data = self._data or _seen(trainer)

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
            length = {"max_epochs": trainer.max_epochs, "max_steps": trainer.max_steps}
            self.save(trainer, FITTED, metrics=metrics, **length)

    def save(self, trainer: pl.Trainer, name: str, **more: Any) -> None:
        """Save a checkpoint with all random numbers."""
        self._saved = {"random": random_state(trainer), "data": self._data, **more}
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
            (self._progress.folder / FITTED).unlink(missing_ok=True)  # of a fit that has been made longer


def _seen(trainer: pl.Trainer) -> dict[str, Any] | None:
    """What a fit is trained on, if that can be told from anything else."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    return identity(data) if callable(getattr(data, "digest", None)) else None


_LENGTHLESS = {"step_size", "milestones", "patience"}
"""What the states of schedules have that don't depend on the length of a fit."""


def goes_on(checkpoint: dict[str, Any], own: dict[str, Any], trainer: pl.Trainer) -> bool:
    """Whether a fit that has ended is to be longer now; one that callbacks ended early stays as it is.

    Args:
        checkpoint: of its end.
        own: what :class:`FitProgress` has put into it.
        trainer: with its length now.

    Raises:
        ValueError: if it is to be shorter, or is counted in steps.
    """
    before, now = own["max_epochs"], trainer.max_epochs
    if (steps := own.get("max_steps", trainer.max_steps)) != trainer.max_steps:
        raise ValueError(f"this fit has ended, with max_steps={steps}; start another to train longer")
    if before == now:
        return False
    if before is None or now is None or (0 <= now < before):
        raise ValueError(f"this fit has ended, with max_epochs={before}; it can be made longer, got max_epochs={now}")
    return bool(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"] >= before)


def _moved(value: Any, before: str, now: str) -> Any:
    """Replace a folder at the beginning of paths, in values and keys, however deeply nested."""
    if isinstance(value, str):
        return now + value[len(before) :] if value == before or value.startswith(before + os.sep) else value
    if isinstance(value, dict):
        return {_moved(name, before, now): _moved(item, before, now) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_moved(item, before, now) for item in value)
    return value
