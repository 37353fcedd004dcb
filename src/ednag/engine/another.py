"""Trainers for the trainings inside a run, each like the run's own but for its folder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl


@dataclass(frozen=True)
class Another:
    """Makes Trainers like one that was made with some arguments; it can be sent to other processes.

    Attributes:
        arguments: of the Trainer, but for ``logger``.
        loggers: each makes a logger for a folder.
        inherit: whether to copy the trainer's callbacks and validation interval.
    """

    arguments: dict[str, Any]
    loggers: list[Callable[[Path], Any]]
    inherit: bool = True

    def __call__(self, *, folder: Path, max_epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
        """Make a Trainer.

        Args:
            folder: its ``default_root_dir``, and where its loggers write.
            max_epochs: epochs to train.
            callbacks: added to copies of the trainer's own.
        """
        arguments = {**self.arguments, "default_root_dir": folder, "max_epochs": max_epochs}
        own = self.arguments.get("callbacks") or []
        own = (own if isinstance(own, list) else [own]) if self.inherit else []
        own = [callback for callback in own if not isinstance(callback, pl.callbacks.ProgressBar)]
        arguments["callbacks"] = [*copy.deepcopy(own), *callbacks]
        arguments["enable_progress_bar"] = False  # there is one for all networks together
        arguments["enable_model_summary"] = bool(arguments.get("enable_model_summary"))
        if not self.inherit:
            arguments["check_val_every_n_epoch"] = 1
        arguments["enable_checkpointing"] = any(isinstance(c, pl.callbacks.Checkpoint) for c in arguments["callbacks"])
        arguments["logger"] = [make(folder) for make in self.loggers]
        return pl.Trainer(**arguments)
