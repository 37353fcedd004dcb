"""What a fit leaves behind for its page: metrics of each epoch, and predictions for held-out tasks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from ednag.core.manifest import manifest
from ednag.core.storage import write_csv, write_json
from ednag.engine.reporting import finish
from ednag.predictor.accuracy_regressor import AccuracyRegressor
from ednag.predictor.meta_data import MetaData
from ednag.predictor.meta_predictor import MetaPredictor

MOST = 2000
"""Most held-out architectures of one task that are written down."""


class FitReport(pl.Callback):
    """Write ``curves.csv``, ``manifest.json`` and, of a predictor, ``predicted.csv``; then the page and its pictures.

    Attributes:
        curves: a row for each finished epoch: every metric that was logged.
    """

    def __init__(self) -> None:
        self.curves: list[dict[str, float]] = []
        self._begun = 0.0
        self._validated = False

    def state_dict(self) -> dict[str, Any]:
        """Curves so far."""
        return {"curves": self.curves}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the curves."""
        self.curves = list(state_dict["curves"])

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._begun = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that this epoch has been validated; otherwise the metrics are those of an earlier one."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add a row."""
        found = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if self._validated or not name.startswith("val")
        }
        self._validated = False
        self.curves.append({"epoch": float(trainer.current_epoch + 1), **dict(sorted(found.items()))})

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write everything."""
        folder = Path(trainer.default_root_dir)
        rows = list(predicted_rows(pl_module, getattr(trainer, "datamodule", None)))
        if not trainer.is_global_zero or not self.curves:
            return
        write_csv(folder / "curves.csv", self.curves)
        if rows:
            write_csv(folder / "predicted.csv", rows)
        if (folder / "report.json").exists():  # what was trained has generated, and the page is of that
            return
        counts, seconds = {"epochs": len(self.curves)}, {"this_session": time.perf_counter() - self._begun}
        write_json(folder / "manifest.json", manifest([], pl_module.device, counts, seconds))
        finish(folder, trainer.loggers)


@torch.inference_mode()
def predicted_rows(model: pl.LightningModule, data: Any) -> Iterator[dict[str, Any]]:
    """Yield ``task``, ``measured`` accuracy and ``predicted`` score of held-out architectures; of predictors only."""
    model.eval()
    if isinstance(model, MetaPredictor) and isinstance(data, MetaData):
        part = data.part("val")
        for task in part.chosen:
            batch = part.collate([task])
            genes, kept = batch.genes[0].to(model.device), batch.measured[0]
            embedding = model.embed(*(x.to(model.device) for x in (batch.features, batch.present, batch.budget)))
            predicted = model(genes[None], embedding).mean(-1)[0]
            name = data.tasks[task].id
            yield from rows_of(name, batch.accuracy[0][kept], predicted.cpu()[kept])
    elif isinstance(model, AccuracyRegressor) and data is not None:
        found = [(targets, model(inputs.to(model.device)).cpu()) for inputs, targets in data.val_dataloader()]
        measured, predicted = (torch.cat(parts) for parts in zip(*found, strict=True))
        yield from rows_of("held-out networks", measured, predicted)


def rows_of(task: str, measured: torch.Tensor, predicted: torch.Tensor) -> Iterator[dict[str, Any]]:
    """Yield the rows of one task, evenly spaced if there are many."""
    every = max(-(-len(measured) // MOST), 1)
    for true, score in zip(measured.tolist()[::every], predicted.tolist()[::every], strict=True):
        yield {"task": task, "measured": true, "predicted": score}
