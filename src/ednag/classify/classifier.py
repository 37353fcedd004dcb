"""A trained network with everything that is needed to use it: classes, and how images become inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ednag.classify.saved import find, load_network, read_architecture
from ednag.data.preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    AnyImage = str | Path | Image.Image | np.ndarray | Tensor


class Classifier(nn.Module):
    """A trained image classifier.

    Args:
        network: from normalised images ``(B, C, H, W)`` to logits ``(B, num_classes)``.
        class_names: name of each label.
        words: how an image becomes an input, see :meth:`ednag.data.preprocessing.Preprocessing.describe`.

    Attributes:
        network: the plain network.
        class_names: name of each label.

    Examples:
        >>> how = {"input_size": [3, 8, 8], "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "center"}
        >>> how |= {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> classifier = Classifier(network, ["cat", "dog"], how)
        >>> photo = torch.zeros(3, 60, 80, dtype=torch.uint8)
        >>> classifier.preprocess(photo).shape, classifier.predict([photo, photo]).shape
        (torch.Size([3, 8, 8]), torch.Size([2, 2]))
    """

    def __init__(self, network: nn.Module, class_names: Sequence[str], words: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.class_names = list(class_names)
        self._words = words

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes an input.

        Raises:
            ValueError: if that isn't known: the network was trained on a data module that doesn't say it.
        """
        return Preprocessing.of(self._words)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, num_classes)`` for normalised images ``(B, C, H, W)``."""
        logits: Tensor = self.network(images)
        return logits

    def preprocess(self, image: AnyImage) -> Tensor:
        """Turn one image into a network's input.

        Args:
            image: a path, a Pillow image, or 8-bit pixels: ``(H, W)`` or ``(H, W, C)`` as a numpy array, ``(C, H, W)``
                as a tensor.

        Returns:
            float32 ``(C, H, W)``, normalised, on the network's device.

        Raises:
            ValueError: if the image can't be read or isn't one.
        """
        how = self.preprocessing
        return how.normalise(how.pixels(image)[None].to(self._device))[0]

    def predict(self, images: AnyImage | Sequence[AnyImage], batch_size: int = 64) -> Tensor:
        """Tell the probability of each class.

        Args:
            images: one image or several, each as for :meth:`preprocess`; or inputs, normalised float ``(B, C, H, W)``.
            batch_size: how many go through the network at once.

        Returns:
            float32 ``(B, num_classes)`` on the CPU; rows sum to 1.

        Raises:
            ValueError: see :meth:`preprocess`; or for a ``batch_size`` below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        if isinstance(images, Tensor) and images.is_floating_point():
            several: Any = images
        else:
            several = images if _are_several(images) else [images]
        parts = [several[i : i + batch_size] for i in range(0, len(several), batch_size)]
        outputs = [self._probabilities(part) for part in parts if len(part)]
        return torch.cat(outputs) if outputs else torch.empty(0, len(self.class_names))

    @torch.inference_mode()
    def _probabilities(self, part: Any) -> Tensor:
        """Probabilities of one batch: inputs, or images to prepare."""
        prepared = isinstance(part, Tensor) and part.is_floating_point()
        inputs = part if prepared else torch.stack([self.preprocess(image) for image in part])
        probabilities: Tensor = self(inputs.to(self._device)).float().softmax(-1).cpu()
        return probabilities

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device


def load(path: str | Path) -> Classifier:
    """Return a trained network, ready to classify images, in eval mode and on the CPU.

    Args:
        path: a folder with ``architecture.json`` and ``weights.safetensors``: of one retrained architecture, or of an
            export. The run directory of a retraining stands for its finished architecture with the best validation
            accuracy.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged, or the weights are of another network.
    """
    folder = find(Path(path))
    architecture = read_architecture(folder)
    names = architecture.get("class_names") or [str(label) for label in range(architecture["num_classes"])]
    return Classifier(load_network(folder, architecture), names, architecture.get("preprocessing", {})).eval()


def _are_several(images: Any) -> bool:
    """Tell several images from one: a list or tuple, or an array with one more dimension than an image."""
    if isinstance(images, (list, tuple)):
        return True
    shape = getattr(images, "shape", None)
    return shape is not None and len(shape) == 4
