"""Image features of tasks, made from the images of their sources."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import lightning.pytorch as pl
import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from ednag.core.reading import read_yaml, reading
from ednag.core.shipped import find_config
from ednag.data.sampling import Images, Pool, open_pool
from ednag.predictor.extractors import FeatureExtractor, find_extractor
from ednag.predictor.features import CORESET, MOST, class_features
from ednag.predictor.tasks import MissingImagesError, TaskDefinition, draw


class TaskFeatures:
    """Draw a task's images again and describe them, for :class:`~ednag.predictor.meta_data.MetaData`.

    Args:
        sources: data modules by the names that the tasks give; see :func:`read_sources`.
        extractor: name of the feature extractor.
        coreset: images of each class. A class that has fewer training images repeats them.
        device: where features are computed.
    """

    def __init__(
        self,
        sources: Mapping[str, pl.LightningDataModule],
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
            MissingImagesError: if its source is not among the sources, or its files are absent or others.
        """
        if task.source not in self._pools:
            self._pools[task.source] = self._open(task)
        images = repeated(draw(self._pools[task.source], task)[1].train, self.coreset)
        return class_features(images.pixels, images.labels, self.extractor, self.coreset, MOST)

    def _open(self, task: TaskDefinition) -> Pool:
        """Read the images of a task's source."""
        if task.source not in self.sources:
            raise MissingImagesError(
                f"task {task.id} needs images of {task.source}; sources: {', '.join(self.sources) or 'none'}"
            )
        try:
            return open_pool(self.sources[task.source], task.image_size)
        except FileNotFoundError as error:
            raise MissingImagesError(f"task {task.id} needs images of {task.source}: {error}") from None


def read_sources(path: Path) -> dict[str, pl.LightningDataModule]:
    """Make the data modules that a configuration of ``ednag collect`` names; their images are not read yet.

    Raises:
        FileNotFoundError: if there is neither such a file nor a shipped configuration of that name.
        ValueError: if it has no valid ``sources``.
    """
    path = find_config(path)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--sources", type=dict[str, pl.LightningDataModule], required=True)
    kind, remedy = "a configuration of `ednag collect` with sources", "see configs/collect"
    content = read_yaml(path, kind, remedy)
    with reading(path, kind, remedy):
        parsed = parser.parse_object({"sources": content["sources"]})
        sources: dict[str, pl.LightningDataModule] = parser.instantiate(parsed).sources
        return sources


def repeated(images: Images, least: int) -> Images:
    """Repeat the images of classes that have fewer than ``least``, in order, until they have."""
    index = torch.arange(len(images.labels))
    more = []
    for label, count in enumerate(images.labels.bincount().tolist()):
        inside = index[images.labels == label]
        more.append(inside[torch.arange(max(least - count, 0)) % max(count, 1)])
    chosen = torch.cat([index, *more])
    return Images(images.pixels[chosen], images.labels[chosen])
