"""What a training leaves behind for its report: learning curves, test predictions, and the worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ednag.core.storage import atomic_write, write_csv
from ednag.data.pixels import to_bytes
from ednag.retraining.predictions import CURVES, MISTAKES, PREDICTIONS, Predictions

TOLD = 5
"""How many classes are kept of each prediction, the likeliest first."""

SHOWN = 24
"""How many mistakes are kept as pictures."""

SIDE = 112
"""Longest side of such a picture in pixels."""


@dataclass
class Evidence(pl.Callback):
    """Record learning curves while a network is trained, and its predictions while it is tested.

    Attributes:
        curves: a row for each finished epoch: ``epoch``, ``lr``, ``loss`` (mean over training batches), and the
            validation metrics without their prefix.
        predictions: of the test images, once they have been tested; ``None`` before.
    """

    curves: list[dict[str, float]] = field(default_factory=list)
    predictions: Predictions | None = None
    _validated: bool = False
    _losses: list[Tensor] = field(default_factory=list)
    _tested: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def state_key(self) -> str:
        """Name in a checkpoint."""
        return "Evidence"

    def state_dict(self) -> dict[str, Any]:
        """Curves so far."""
        return {"curves": self.curves}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the curves."""
        self.curves = list(state_dict["curves"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin an epoch."""
        self._losses = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss, without waiting for the device."""
        self._losses.append(outputs["loss"].detach())

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that this epoch has been validated; otherwise the metrics are those of an earlier one."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add a row; the epoch's validation has ended by now."""
        row = {"epoch": float(trainer.current_epoch + 1), "lr": trainer.optimizers[0].param_groups[0]["lr"]}
        if self._losses:
            row["loss"] = float(torch.stack(self._losses).mean())
        measured = {
            n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("val/") and self._validated
        }
        self._validated = False
        self.curves.append(row | {name.removeprefix("val/"): value for name, value in measured.items()})

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a test."""
        self._tested = []

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the probabilities of a batch, as the test step returns them."""
        self._tested.append((outputs.detach(), batch[1]))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the predictions together, in the order of the images."""
        probabilities, labels = (torch.cat(parts) for parts in zip(*self._tested, strict=True))
        if trainer.world_size > 1:  # Lightning deals images out in turn, and repeats some where they don't share out
            probabilities, labels = (gathered(trainer, pl_module, part) for part in (probabilities, labels))
        best = probabilities.float().topk(min(TOLD, probabilities.shape[1]))
        self.predictions = Predictions(
            labels.cpu().numpy(),
            best.indices.cpu().numpy(),
            best.values.cpu().numpy(),
            np.array(_names(trainer.test_dataloaders)[: len(labels)]),
        )

    def save(self, folder: Path, data: pl.LightningDataModule, images: bool = True) -> None:
        """Write curves and predictions, and with ``images`` small pictures of the worst mistakes."""
        write_csv(folder / CURVES, self.curves)
        if self.predictions is None:
            return
        self.predictions.save(folder / PREDICTIONS)
        if images and _pictured(loader := data.test_dataloader()):
            arrays = _pictures(loader, self.predictions.worst(SHOWN))
            atomic_write(folder / MISTAKES, lambda stream: np.savez_compressed(stream, **arrays))  # type: ignore[arg-type]


def gathered(trainer: pl.Trainer, pl_module: pl.LightningModule, part: Tensor) -> Tensor:
    """Bring the rows of all processes into the order of the images: Lightning deals these out in turn, some twice."""
    loader: Any = trainer.test_dataloaders
    parts = pl_module.all_gather(part)
    if not isinstance(parts, Tensor):
        raise TypeError(f"one tensor was gathered, and became {type(parts).__name__}")
    return parts.transpose(0, 1).flatten(0, 1)[: len(loader.dataset)]


def _names(loader: Any) -> Sequence[str]:
    """Names of a loader's image files, with their last folder; none if the images are no files."""
    files = getattr(getattr(loader, "dataset", None), "files", ())
    return [str(Path(path.parent.name) / path.name) for path in files]


def _pictured(loader: Any) -> bool:
    """Whether images can be taken from a loader's data set one by one, and shown: grey, or in three colours."""
    try:
        first = torch.as_tensor(loader.dataset[0][0])
    except Exception:  # the user's own data set, which may be of any kind
        return False
    return first.ndim == 3 and first.shape[0] in (1, 3)


def _pictures(loader: Any, chosen: Sequence[int]) -> dict[str, np.ndarray]:
    """Take images of a loader's data set as small 8-bit pictures: ``images`` is where each is, and ``0``, ``1``, ... they."""
    pictures = {}
    for place, index in enumerate(chosen):
        taken = torch.as_tensor(loader.dataset[index][0])
        pixels = to_bytes(taken, float(taken.min()), float(taken.max())).permute(1, 2, 0).numpy()
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        picture.thumbnail((SIDE, SIDE))
        pictures[str(place)] = np.array(picture)
    return {"images": np.array(chosen, dtype=np.int64), **pictures}
