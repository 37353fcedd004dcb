"""A small network that learns the accuracy of architectures from measured ones, and its data."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection
from torchmetrics.regression import KendallRankCorrCoef, MeanAbsoluteError, SpearmanCorrCoef

from ednag.benchmarks.arrays import open_table
from ednag.benchmarks.layouts import recognise
from ednag.core.storage import load_state, write_json
from ednag.spaces import MobileNetV3, SearchSpace

log = logging.getLogger(__name__)

CHECKPOINT = "regressor"
"""Name, without the ending ``.ckpt``, of the checkpoint in the run's directory."""

MEASURE = "ImageNet top-1 accuracy, %"


def describe_space(space: SearchSpace) -> dict[str, Any]:
    """Say which space a model was fitted on: its name, and its options if it has any."""
    options = {name: value for name, value in vars(space).items() if isinstance(value, bool | int | float | str)}
    return {"name": space.name, **options}


class MeasuredNetworks(pl.LightningDataModule):
    """The 2,162 measured sub-networks of once-for-all MobileNetV3 (width 1.0, 224 pixels) in ``ofa_mobilenetv3.npz``.

    A random fifth is held out: it is what validation and test measure, and training never sees it.

    Args:
        table: path of the table, or its name in the catalogue.
        batch_size: architectures per batch.
        holdout: share that is held out, in (0, 1).
        seed: of the split, and of the order of training batches.

    Attributes:
        space: the search space.

    Raises:
        ValueError: for a share or a batch size out of range.

    Examples:
        >>> data = MeasuredNetworks("ofa_mobilenetv3")
        >>> data.setup("fit")
        >>> len(data.training), len(data.held_out)
        (1730, 432)
    """

    def __init__(
        self, table: str | Path = "ofa_mobilenetv3", batch_size: int = 64, holdout: float = 0.2, seed: int = 0
    ) -> None:
        super().__init__()
        if not 0 < holdout < 1 or batch_size < 1:
            raise ValueError(f"holdout must be in (0, 1) and batch_size >= 1, got {holdout} and {batch_size}")
        self.table, self.batch_size, self.holdout, self.seed = table, batch_size, holdout, seed
        self.space: SearchSpace = MobileNetV3()

    def setup(self, stage: str) -> None:
        """Read the table and split it.

        Raises:
            FileNotFoundError: if the table is absent.
            ValueError: if it is damaged or not of this layout.
        """
        genes, accuracy = read_measured(self.table)
        order = torch.randperm(len(genes), generator=torch.Generator().manual_seed(self.seed))
        held = round(self.holdout * len(genes))
        inputs = self.space.features(genes)
        self.held_out = TensorDataset(inputs[order[:held]], accuracy[order[:held]])
        self.training = TensorDataset(inputs[order[held:]], accuracy[order[held:]])

    def train_dataloader(self) -> DataLoader[Any]:
        """Four fifths, in a random order."""
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(self.training, self.batch_size, shuffle=True, generator=generator)

    def val_dataloader(self) -> DataLoader[Any]:
        """The held-out fifth."""
        return DataLoader(self.held_out, len(self.held_out))

    test_dataloader = val_dataloader


def read_measured(table: str | Path) -> tuple[Tensor, Tensor]:
    """Read measured sub-networks of once-for-all MobileNetV3.

    Args:
        table: a name of the catalogue, or the path of an ``.npz`` with ``dynas_ks`` and ``dynas_e`` (rows, 20), ``dynas_d`` (rows, 5), ``dynas_top1`` (rows,).

    Returns:
        genes, int64 ``(rows, 45)``, and top-1 accuracy in percent, float32 ``(rows,)``.

    Raises:
        FileNotFoundError: if it is absent.
        ValueError: if it is damaged or not of this layout.
    """
    file, arrays = open_table(table)
    recognise(file.path, arrays, ["ofa_mobilenetv3"])
    try:
        ks, e, d, accuracy = (arrays[f"dynas_{name}"] for name in ("ks", "e", "d", "top1"))
        space = MobileNetV3()
        rows = zip(ks.tolist(), e.tolist(), d.tolist(), strict=True)
        genes = torch.stack([space.from_settings(*row) for row in rows])
        target = torch.from_numpy(accuracy).float()
        if target.shape != genes.shape[:1] or not target.isfinite().all():
            raise ValueError(f"dynas_top1 must be {len(genes)} numbers")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file.path} is not a table of measured MobileNetV3 sub-networks (ofa_mobilenetv3.npz): {error}"
        ) from None
    return genes, target


class AccuracyRegressor(pl.LightningModule):
    """Predict the accuracy of an architecture: a linear model of its features, and an MLP for what that leaves.

    For ``ednag fit`` with a data module that has ``space``, ``training`` and ``held_out``, such as
    :class:`MeasuredNetworks`. The weights after the last epoch are kept as ``RUN/regressor.ckpt``, and what they reach
    on the held-out part is in ``RUN/regressor.json``; nothing is chosen by it.

    Args:
        features: length of the input, :meth:`SearchSpace.features`.
        hidden: width of the MLP.
        lr: learning rate, lowered to 0 by a cosine over the training.
        weight_decay: of AdamW.

    Raises:
        ValueError: if a size is not positive.

    Examples:
        >>> AccuracyRegressor(features=100)(torch.zeros(2, 100)).shape
        torch.Size([2])
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, features: int = 100, hidden: int = 256, lr: float = 2e-3, weight_decay: float = 1e-3) -> None:
        super().__init__()
        if min(features, hidden) < 1:
            raise ValueError(f"features and hidden must be >= 1, got {features} and {hidden}")
        self.save_hyperparameters()
        self.linear = nn.Linear(features, 1)
        self.rest = nn.Sequential(
            nn.Linear(features, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
        )
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.lr, self.weight_decay = lr, weight_decay
        self.space: dict[str, Any] = {}
        self.metrics = MetricCollection(
            {"spearman": SpearmanCorrCoef(), "kendall": KendallRankCorrCoef(), "mae": MeanAbsoluteError()},
            prefix="val/",
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map features ``(*B, F)`` to accuracies ``(*B,)``, in the unit of the targets."""
        out: Tensor = self.centre + self.scale * (self.linear(inputs) + self.rest(inputs)).squeeze(-1)
        return out

    def setup(self, stage: str) -> None:
        """Take over the space and the scale of the targets.

        Raises:
            ValueError: if the data module doesn't serve, or its architectures have another number of features.
        """
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(getattr(data, "space", None), SearchSpace) or data is None:
            raise ValueError("AccuracyRegressor needs measured architectures: --data MeasuredNetworks")
        inputs, targets = data.training.tensors
        wanted = self.linear.in_features
        if inputs.shape[1] != wanted:
            raise ValueError(f"{data.space.name} has {inputs.shape[1]} features; set model.features, now {wanted}")
        self.space = describe_space(data.space)
        if stage == "fit":
            self.centre, self.scale = targets.mean(), targets.std()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean squared error in standard deviations of the targets."""
        inputs, targets = batch
        loss = F.mse_loss(self(inputs) / self.scale, targets / self.scale)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Rank correlations and the mean absolute error on the held-out part."""
        self.metrics.update(self(batch[0]), batch[1])
        self.log_dict(self.metrics, on_step=False, on_epoch=True, prog_bar=True)

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        """AdamW and a cosine schedule over all steps."""
        optimizer = torch.optim.AdamW(self.parameters(), self.lr, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_callbacks(self) -> list[pl.Callback]:
        """Keep the last weights in the run's directory."""
        return [
            pl.callbacks.ModelCheckpoint(
                self.trainer.default_root_dir, CHECKPOINT, save_weights_only=True, enable_version_counter=False
            )
        ]

    def on_fit_end(self) -> None:
        """Write down what was reached on the held-out part."""
        found = {name: float(value) for name, value in self.trainer.callback_metrics.items() if name.startswith("val/")}
        if self.trainer.is_global_zero:
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            counts = {"training": len(data.training), "held_out": len(data.held_out)}
            write_json(Path(self.trainer.default_root_dir) / "regressor.json", {"space": self.space, **counts, **found})
        log.info("held-out Spearman %.4f", found.get("val/spearman", float("nan")))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what :func:`load_regressor` needs."""
        sizes = {"features": self.linear.in_features, "hidden": self.rest[0].out_features}
        checkpoint["ednag_regressor"] = {"sizes": sizes, "space": self.space}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the space."""
        self.space = checkpoint["ednag_regressor"]["space"]


def load_regressor(path: str | Path) -> AccuracyRegressor:
    """Read a regressor that ``ednag fit`` trained; nothing in the file is run.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, or no checkpoint of an :class:`AccuracyRegressor`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {path}; `ednag fit --config fit/ofa_accuracy` writes RUN/{CHECKPOINT}.ckpt"
        )
    content = load_state(path)
    try:
        model = AccuracyRegressor(**content["ednag_regressor"]["sizes"])
        model.load_state_dict(content["state_dict"])
        model.on_load_checkpoint(content)
    except (KeyError, TypeError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ValueError(f"{path} is not a checkpoint of an AccuracyRegressor ({reason})") from None
    return model.eval()
