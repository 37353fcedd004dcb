"""Features of the images of a data set: a small coreset of each class, and the files that keep them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load, save
from torch import Tensor

from ednag.core.reading import LARGEST_ARRAYS, read_bytes, reading
from ednag.core.storage import atomic_write

if TYPE_CHECKING:
    from ednag.predictor.extractors import FeatureExtractor

CORESET = 20
"""Images of each class that stand for it, as in the paper."""

MOST = 50
"""Images of a class that are looked at; evenly spaced ones if there are more."""


def class_features(
    images: Tensor,
    labels: Tensor,
    extractor: FeatureExtractor,
    coreset: int = CORESET,
    most: int = MOST,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Describe each class by the features of a few of its images.

    Args:
        images: as :class:`~ednag.predictor.extractors.FeatureExtractor` takes them, ``(n, C, S, S)``.
        labels: int64 ``(n,)``, in ``0 .. K - 1``.
        extractor: of features.
        coreset: ``m``, images of each class to keep; see :func:`k_centre`.
        most: images of each class to choose from.
        names: of the classes, for messages.

    Returns:
        float32 ``(K, m, F)``; the same for the same images in the same order.

    Raises:
        ValueError: for fewer than two classes, or a class with fewer images than the coreset, naming it.
    """
    count = labels.bincount()
    if len(count) < 2:
        raise ValueError("the data set has one class only; a predictor compares architectures on two or more")
    least = int(count.argmin())
    if count[least] < coreset:
        raise ValueError(
            f"class {names[least] if names else least} has {int(count[least])} training images, fewer than the coreset of {coreset}; "
            "give more images of it, or leave it out"
        )
    chosen = []
    for label in range(len(count)):
        members = (labels == label).nonzero().flatten()
        spaced = torch.arange(min(most, len(members))) * len(members) // min(most, len(members))
        chosen.append(members[spaced.to(members.device)])
    features = torch.split(extractor(images[torch.cat(chosen)]), [len(some) for some in chosen])
    return torch.stack([some[k_centre(some, coreset)] for some in features])


def k_centre(points: Tensor, count: int) -> Tensor:
    """Choose points that cover a set: the one nearest to the mean, then always the farthest from those chosen.

    The greedy 2-approximation of the k-centre problem (Gonzalez 1985); ties go to the lower index.

    Args:
        points: ``(n, F)``.
        count: how many, at most ``n``.

    Returns:
        distinct indices, int64 ``(count,)``, in the order of choice.
    """
    points = points.double()
    chosen = [int(torch.linalg.vector_norm(points - points.mean(0), dim=-1).argmin())]
    distance = torch.full_like(points[:, 0], torch.inf)
    for _ in range(count - 1):
        nearer = torch.linalg.vector_norm(points - points[chosen[-1]], dim=-1)
        distance = torch.minimum(distance, nearer)
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
    return torch.tensor(chosen, device=points.device)


def features_path(folder: Path, digest: str, extractor: str) -> Path:
    """File of the features of images with a digest."""
    return Path(folder) / f"{digest[:16]}-{extractor}.safetensors"


def save_features(path: Path, features: Tensor) -> None:
    """Write features ``(K, m, F)`` in half precision, atomically."""
    content = save({"features": features.to("cpu", torch.float16).contiguous()})
    atomic_write(path, lambda stream: stream.write(content))


def load_features(path: Path) -> Tensor:
    """Read what :func:`save_features` wrote, float32 ``(K, m, F)``.

    Raises:
        ValueError: if the file is damaged.
    """
    with reading(path, "features of images", "remove it, and it is made again"):
        return load(read_bytes(path, LARGEST_ARRAYS))["features"].float()
