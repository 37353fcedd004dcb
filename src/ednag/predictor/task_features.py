"""Image features of tasks, made from the images of their sources."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.predictor.extractors import FeatureExtractor, find_extractor
from ednag.predictor.features import CORESET, MOST, class_features
from ednag.predictor.tasks import Images, Pool, TaskDefinition, draw, open_pool


class TaskFeatures:
    """Draw a task's images again and describe them, for :class:`~ednag.predictor.data.MetaData`.

    Args:
        sources: data modules by the names that the tasks give; those of ``ednag collect``.
        extractor: name of the feature extractor.
        coreset: images of each class. A class that has fewer training images repeats them.
        device: where features are computed.
    """

    def __init__(
        self,
        sources: dict[str, pl.LightningDataModule],
        extractor: str = "efficientnet_lite0",
        coreset: int = CORESET,
        device: str = "cpu",
    ) -> None:
        self.sources, self.coreset = sources, coreset
        self.extractor: FeatureExtractor = find_extractor(extractor)(device)
        self._pools: dict[str, Pool] = {}

    def __call__(self, task: TaskDefinition) -> Tensor:
        """Return features ``(K, m, F)`` of the training images of a task.

        Raises:
            ValueError: if its source is not among the sources, or has other images.
        """
        if task.source not in self._pools:
            if task.source not in self.sources:
                raise ValueError(
                    f"task {task.id} needs images of {task.source}; sources: {', '.join(self.sources) or 'none'}"
                )
            self._pools[task.source] = open_pool(self.sources[task.source], task.image_size)
        images = repeated(draw(self._pools[task.source], task)[1].train, self.coreset)
        return class_features(images.pixels, images.labels, self.extractor, self.coreset, MOST)


def repeated(images: Images, least: int) -> Images:
    """Repeat the images of classes that have fewer than ``least``, in order, until they have."""
    index = torch.arange(len(images.labels))
    more = []
    for label, count in enumerate(images.labels.bincount().tolist()):
        inside = index[images.labels == label]
        more.append(inside[torch.arange(max(least - count, 0)) % max(count, 1)])
    chosen = torch.cat([index, *more])
    return Images(images.pixels[chosen], images.labels[chosen])
