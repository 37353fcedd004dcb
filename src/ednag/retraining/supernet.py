"""Weights of a once-for-all supernet for its sub-networks, and batch-norm statistics to go with them.

The layout is that of the published MobileNetV3 supernets (``ofa_mbv3_d234_e346_k357_w1.0`` and ``w1.2``; Cai et al.
2020): weights of the largest network, whose inner channels are sorted by importance, and for each layer two matrices
that turn a 7x7 kernel into a 5x5 one and that into a 3x3 one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from ednag.benchmarks.locate import sha256
from ednag.core.storage import load_state
from ednag.spaces.mobilenetv3 import PLACES, STAGES, MobileNetV3
from ednag.spaces.mobilenetv3_network import STEM_CHANNELS, WIDTHS, MobileNetV3Network, round_channels

log = logging.getLogger(__name__)

CLASSIFIER = ("classifier.linear.weight", "classifier.linear.bias")
"""Weights that fit only a network with the supernet's classes (1,000 of ImageNet)."""

_MATRICES = {"7to5_matrix": 25, "5to3_matrix": 9}
_SYNONYMS = (
    (re.compile(r"^module\."), ""),
    (re.compile(r"\.mobile_inverted_conv\."), ".conv."),
    (re.compile(r"\.(bn|linear)\.\1\."), r".\1."),
    (re.compile(r"\.conv\.conv\.weight$"), ".conv.weight"),
)
"""Names that differ between releases of the once-for-all program, and what stands for them here."""


class Supernet:
    """The weights of a once-for-all MobileNetV3 supernet.

    Args:
        state: tensors by name, as the once-for-all program saves them; names of its older and newer releases are known.

    Attributes:
        width: multiplier of the channels, 1.0 or 1.2.
        num_classes: of its classifier.

    Raises:
        ValueError: if a tensor is missing, or of another shape than in a supernet of that width.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = {_common_name(name): value for name, value in state.items()}
        self.width = _find_width(self.state)
        self.num_classes = len(self.state.get(CLASSIFIER[1], ()))
        _check_shapes(self.state, self.width, self.num_classes)

    @classmethod
    def load(cls, path: str | Path) -> Supernet:
        """Read a checkpoint: the tensors themselves, or a dictionary with them under ``state_dict``.

        No code in the file runs (``weights_only``).

        Raises:
            FileNotFoundError: if it is absent.
            ValueError: if it is damaged or not such a supernet.
        """
        content: Any = load_state(Path(path))
        state = content.get("state_dict", content) if isinstance(content, dict) else None
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError(f"{path} holds no tensors by name; expected the state_dict of a once-for-all supernet")
        try:
            return cls(state)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def sorted(self) -> Supernet:
        """Sort the inner channels of every layer by importance, as the once-for-all program does before it shrinks.

        Importance is the sum of absolute weights of the projection that reads the channel. The largest network computes
        the same; smaller ones keep the most important channels. Published supernets are sorted already.
        """
        state = dict(self.state)
        for place in range(1, PLACES + 1):
            block = f"blocks.{place}.conv."
            order = _importance(state[f"{block}point_linear.conv.weight"], keep=1)
            _reorder(state, f"{block}inverted_bottleneck.", order, 0)
            _reorder(state, f"{block}depth_conv.conv.weight", order, 0)
            _reorder(state, f"{block}depth_conv.bn.", order, 0)
            _reorder(state, f"{block}depth_conv.se.fc.expand.", order, 0)
            _reorder(state, f"{block}depth_conv.se.fc.reduce.weight", order, 1)
            _reorder(state, f"{block}point_linear.conv.weight", order, 1)
            if f"{block}depth_conv.se.fc.expand.weight" in state:
                inner = _importance(state[f"{block}depth_conv.se.fc.expand.weight"], keep=1)
                _reorder(state, f"{block}depth_conv.se.fc.expand.weight", inner, 1)
                _reorder(state, f"{block}depth_conv.se.fc.reduce.", inner, 0)
        return Supernet(state)

    def weights(self, network: MobileNetV3Network) -> dict[str, Tensor]:
        """Cut the weights of a sub-network out of the supernet's.

        Each tensor is the front part of the supernet's, as far as the sub-network has channels; kernels are the centre
        of the next larger one, flattened and multiplied by its matrix (Cai et al. 2020, section 3.3).

        Args:
            network: a sub-network of the same width, for images of three channels.

        Returns:
            tensors by the sub-network's own names, without the classifier's where the number of classes differs.

        Raises:
            ValueError: if the network is of another width, or takes other than three channels.
        """
        if network.width != self.width:
            raise ValueError(
                f"the supernet is of width {self.width}, the network of width {network.width}; "
                f"use the checkpoint of width {network.width}, or MobileNetV3(width={self.width})"
            )
        names = _supernet_names(network)
        own = network.state_dict()
        if own["first_conv.conv.weight"].shape[1] != 3:
            raise ValueError(
                f"the supernet takes images of 3 channels, the network {own['first_conv.conv.weight'].shape[1]}"
            )
        found = {}
        for name, target in own.items():
            source = self.state.get(names[name])
            if source is None or (name in CLASSIFIER and len(target) != self.num_classes):
                continue  # batches counted, which a checkpoint may lack; a classifier of other classes
            front = source[tuple(slice(size) for size in target.shape[:2])]
            if name.endswith("depth_conv.conv.weight") and not name.startswith("blocks.0."):
                front = self._shrink(front, names[name].removesuffix("weight"), target.shape[-1])
            found[name] = front.to(target.dtype).clone()
        return found

    def _shrink(self, kernels: Tensor, prefix: str, size: int) -> Tensor:
        """Turn 7x7 kernels ``(channels, 1, 7, 7)`` into smaller ones, one size after the other."""
        for smaller in (5, 3):
            if kernels.shape[-1] > size:
                matrix = self.state[f"{prefix}{smaller + 2}to{smaller}_matrix"]
                centre = kernels[..., 1:-1, 1:-1].flatten(2)
                kernels = (centre @ matrix.T.to(centre.dtype)).view(*centre.shape[:2], smaller, smaller)
        return kernels

    def load_into(self, network: MobileNetV3Network) -> list[str]:
        """Give a sub-network its part of the supernet's weights; see :meth:`weights`.

        Returns:
            names of the parameters that keep their own values: the classifier's, where the classes differ.
        """
        found = self.weights(network)
        network.load_state_dict(found, strict=False)
        kept = [name for name, _ in network.named_parameters() if name not in found]
        log.info("supernet weights loaded; fresh: %s", ", ".join(kept) or "none")
        return kept


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


def _common_name(name: str) -> str:
    """Name a tensor as the sub-networks do."""
    for pattern, replacement in _SYNONYMS:
        name = pattern.sub(replacement, name)
    return name


def _supernet_names(network: MobileNetV3Network) -> dict[str, str]:
    """Name of each of the network's tensors in the supernet: blocks that shallow stages lack leave gaps."""
    places = {str(index): str(layer.place) for index, layer in enumerate(network.layers)}
    names = {}
    for name in network.state_dict():
        head, _, rest = name.partition(".")
        block, _, tail = rest.partition(".")
        names[name] = f"blocks.{places[block]}.{tail}" if head == "blocks" else name
    return names


def _find_width(state: dict[str, Tensor]) -> float:
    """Tell the width of a supernet by its first convolution."""
    stem = state.get("first_conv.conv.weight")
    widths = {round_channels(STEM_CHANNELS * width): width for width in WIDTHS}
    if stem is None or len(stem) not in widths:
        found = "none" if stem is None else f"one of {len(stem)} channels"
        expected = " or ".join(f"{channels} (width {width})" for channels, width in widths.items())
        raise ValueError(
            f"not a once-for-all MobileNetV3 supernet: expected a first convolution (first_conv) of {expected} "
            f"channels, found {found}"
        )
    return widths[len(stem)]


def _check_shapes(state: dict[str, Tensor], width: float, num_classes: int) -> None:
    """Compare a supernet with the largest network of its width."""
    largest = torch.full((STAGES + 2 * PLACES,), 2)
    with torch.device("meta"):
        network = MobileNetV3(width).build(largest, num_classes)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for place in range(1, PLACES + 1):
        for name, side in _MATRICES.items():
            expected[f"blocks.{place}.conv.depth_conv.conv.{name}"] = (side, side)
    for name, shape in expected.items():
        if name.endswith("num_batches_tracked"):
            continue
        if name not in state:
            raise ValueError(f"the supernet lacks {name}; expected a MobileNetV3 of depth 4, expansion 6 and kernel 7")
        if tuple(state[name].shape) != shape:
            raise ValueError(
                f"{name} has shape {tuple(state[name].shape)}, expected {shape} in a supernet of width {width}; "
                "supernets of other widths, depths or expansions don't fit"
            )


def _importance(weight: Tensor, keep: int) -> Tensor:
    """Order the channels of one dimension of a weight by the sum of absolute values, the largest first."""
    others = [dim for dim in range(weight.dim()) if dim != keep]
    return weight.abs().sum(others).argsort(descending=True, stable=True)


def _reorder(state: dict[str, Tensor], prefix: str, order: Tensor, dim: int) -> None:
    """Reorder one dimension of every tensor whose name begins so, scalars aside."""
    for name in [name for name in state if name.startswith(prefix) and state[name].dim() > dim]:
        state[name] = state[name].index_select(dim, order)
