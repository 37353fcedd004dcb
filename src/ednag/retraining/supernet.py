"""Begin a training with the weights of a once-for-all supernet, and recalibrate batch normalisation for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from ednag.core.inputs import sha256
from ednag.spaces.mobilenetv3_network import MobileNetV3Network
from ednag.spaces.supernet import Supernet


def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace the statistics of batch normalisation by those of some images.

    The statistics of a supernet fit none of its sub-networks. Every layer gets the mean over the batches of their means
    and (unbiased) variances, batches counting equally, while each batch is normalised by its own. Weights, modes,
    momenta and the global random state stay as they are.

    Args:
        network: with any number of ``BatchNorm`` layers.
        batches: normalised images ``(B, C, H, W)``, on the network's device; ``B`` at least 2.

    Returns:
        how many batches there were.

    Raises:
        ValueError: if there is no batch.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    count = 0
    with _collecting(network, norms), torch.no_grad():
        for images in batches:
            if count == 0:
                for norm in norms:
                    norm.reset_running_stats()
            network(images)
            count += 1
    if count == 0:
        raise ValueError("batch normalisation can't be recalibrated without images; give at least one batch")
    return count


class SupernetWeights(pl.Callback):
    """Begin a training with a supernet's weights: for ``ednag retrain``, under ``trainer.callbacks``.

    A resumed training keeps the weights of its checkpoint.

    Args:
        path: checkpoint of a once-for-all supernet, see :class:`Supernet`.
        recalibration_batches: training batches that batch normalisation is recalibrated with before training; 0 for
            the supernet's own statistics.

    Raises:
        FileNotFoundError: once the training begins, if there is no such file.
        ValueError: if ``recalibration_batches`` is negative; once the training begins, if the checkpoint or the network
            doesn't suit.

    Examples:
        >>> callback = SupernetWeights("ofa_mbv3_w1.0")  # the file is read when a training begins
    """

    def __init__(self, path: str | Path, recalibration_batches: int = 0) -> None:
        if recalibration_batches < 0:
            raise ValueError(f"recalibration_batches must be >= 0, got {recalibration_batches}")
        self.path = Path(path)
        self.recalibration_batches = recalibration_batches

    def provenance(self) -> dict[str, Any]:
        """Say where the weights come from: path, SHA-256 and size of the checkpoint, as a retraining writes down.

        Raises:
            FileNotFoundError: if there is no such file.
        """
        if not self.path.is_file():
            raise FileNotFoundError(f"no supernet checkpoint at {self.path}; once-for-all's page offers them")
        return {
            "path": str(self.path),
            "sha256": sha256(self.path),
            "bytes": self.path.stat().st_size,
            "recalibration_batches": self.recalibration_batches,
        }

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Load the weights, before the Trainer restores a checkpoint."""
        if stage == "fit":
            Supernet.load(self.path).load_into(_network_of(pl_module))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Recalibrate on the device, unless a checkpoint was restored."""
        if self.recalibration_batches == 0 or trainer.ckpt_path is not None:
            return
        data = getattr(trainer, "datamodule", None)
        if data is None:
            raise ValueError("recalibration takes its images from a datamodule; fit with one, or set it to 0 batches")

        def images() -> Iterator[Tensor]:
            for batch in islice(data.train_dataloader(), self.recalibration_batches):
                moved = pl_module.transfer_batch_to_device(batch, pl_module.device, 0)
                yield data.on_after_batch_transfer(moved, 0)[0]

        recalibrate(_network_of(pl_module), images())


@contextmanager
def _collecting(network: nn.Module, norms: list[nn.modules.batchnorm._BatchNorm]) -> Iterator[None]:
    """Put batch normalisation into training with a cumulative average, all else into evaluation, for a while."""
    modes = [(module, module.training) for module in network.modules()]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = None
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode


def _network_of(module: pl.LightningModule) -> MobileNetV3Network:
    network = getattr(module, "network", None)
    if not isinstance(network, MobileNetV3Network):
        raise ValueError(f"supernet weights are for networks of MobileNetV3, got {type(network).__name__}")
    return network
