"""Loggers for the trainings inside a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl


def logger_for(logger: Any, folder: Path) -> Any:
    """Make a logger of the same kind that writes into another folder (W&B: another run of the same group)."""
    if isinstance(logger, pl.loggers.CSVLogger):
        return pl.loggers.CSVLogger(folder, name="logs")  # a resumed training adds a version
    if isinstance(logger, pl.loggers.TensorBoardLogger):
        return pl.loggers.TensorBoardLogger(folder, name="logs")
    if isinstance(logger, pl.loggers.WandbLogger):
        import wandb

        wandb.finish()  # a logger that is made while a run is open joins that run
        options = {k: v for k, v in logger._wandb_init.items() if k in ("project", "entity", "mode", "tags")}
        group = logger._wandb_init.get("group") or folder.parent.name
        return pl.loggers.WandbLogger(name=folder.name, save_dir=folder, group=group, job_type="retrain", **options)
    return logger
