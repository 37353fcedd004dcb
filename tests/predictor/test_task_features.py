"""Features of tasks, recomputed from the images of their sources."""

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from ednag.predictor.extractors import FeatureExtractor
from ednag.predictor.task_features import TaskFeatures, repeated
from ednag.predictor.tasks import Images, TaskDefinition, draw, open_pool
from ednag.retraining.datasets import Digits

LIMITS = {"train": 300, "val": 100, "test": 100}


class MeanColour(FeatureExtractor):
    """Three features: the mean of each channel."""

    name: ClassVar[str] = "mean"
    dim: ClassVar[int] = 3
    side: ClassVar[int] = 16

    def load(self) -> nn.Module:
        class Mean(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x.mean((-2, -1))

        return Mean()


@pytest.fixture
def features() -> TaskFeatures:
    made = TaskFeatures({"digits": Digits(image_size=16)})
    made.extractor = MeanColour()
    return made


def test_features_are_of_the_images_that_the_task_was_trained_on(features: TaskFeatures) -> None:
    task = TaskDefinition("digits-0", "digits", (2, 5, 7), 16, 16, False, 1, LIMITS)
    task, images = draw(open_pool(Digits(image_size=16), 16), task)
    made = features(task)
    assert made.shape == (3, 20, 3)
    means = images.train.pixels.float().mean((2, 3)) / 255
    for label in range(3):
        distance = (made[label][:, None] - means[images.train.labels == label]).abs().amax(-1).amin(1)
        assert distance.max() < 1e-6
    with pytest.raises(ValueError, match="needs images of letters; sources: digits"):
        features(replace(task, source="letters"))
    with pytest.raises(ValueError, match="are not those that task"):
        features(replace(task, sha256="0" * 64))


def test_small_classes_repeat_their_images() -> None:
    images = Images(torch.arange(5)[:, None, None, None].expand(5, 3, 2, 2), torch.tensor([0, 0, 1, 1, 1]))
    out = repeated(images, 5)
    assert out.labels.bincount().tolist() == [5, 5]
    assert out.pixels[out.labels == 0, 0, 0, 0].tolist() == [0, 1, 0, 1, 0]
    assert torch.equal(repeated(images, 2).labels, images.labels)
