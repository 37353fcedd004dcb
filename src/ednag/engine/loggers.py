"""Loggers for the trainings inside a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl


def logger_maker(logger: Any, run_dir: Path) -> Callable[[Path], Any]:
    """Return what makes loggers of the same kind that write into other folders; it can be sent to other processes.

    Args:
        logger: of a run.
        run_dir: of that run; W&B runs of its trainings form a group of this name if the logger has none.
    """
    if isinstance(logger, pl.loggers.CSVLogger):
        return partial(pl.loggers.CSVLogger, name="logs")  # a resumed training adds a version
    if isinstance(logger, pl.loggers.TensorBoardLogger):
        return partial(pl.loggers.TensorBoardLogger, name="logs")
    if isinstance(logger, pl.loggers.WandbLogger):
        options = {k: v for k, v in logger._wandb_init.items() if k in ("project", "entity", "mode", "tags")}
        return partial(wandb_run, {"group": logger._wandb_init.get("group") or run_dir.name, **options})
    return partial(_same, logger)


def wandb_run(options: dict[str, Any], folder: Path) -> pl.loggers.WandbLogger:
    """Open a W&B run for a training."""
    import wandb

    wandb.finish()  # a logger that is made while a run is open joins that run
    return pl.loggers.WandbLogger(name=folder.name, save_dir=folder, job_type="retrain", **options)


def _same(logger: Any, folder: Path) -> Any:
    """A logger that is like none of the above serves all trainings."""
    return logger
