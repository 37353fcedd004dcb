"""How long, on what and how large a network is trained: what decides, beside the images, which architectures are good."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.data.sampling import image_shape


@dataclass(frozen=True)
class TrainingBudget:
    """A training, as a predictor is told of it.

    Attributes:
        steps: of the optimiser.
        images: to train on.
        image_size: side of an image in pixels.
        classes: number of labels.
        capacity: width times depth of the network: channels after the stem times cells (or blocks) a stage.

    Raises:
        ValueError: if a number is not positive.

    Examples:
        >>> TrainingBudget(64, 1000, 16, 10, 8).encode().shape
        torch.Size([5])
    """

    steps: float
    images: float
    image_size: float
    classes: float
    capacity: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) and value > 0 for value in astuple(self)):
            raise ValueError(f"a training budget needs numbers above 0, got {self}")

    def encode(self) -> Tensor:
        """Return the logarithms of the numbers, about -1 to 1 for the trainings of this field, float32 ``(5,)``."""
        return (torch.tensor(astuple(self)).log2() - torch.tensor(CENTRE)) / torch.tensor(SCALE)


def decode(code: Tensor) -> TrainingBudget:
    """Undo :meth:`TrainingBudget.encode`, up to rounding."""
    return TrainingBudget(*(code.cpu() * torch.tensor(SCALE) + torch.tensor(CENTRE)).exp2().tolist())


CENTRE = (10.6, 12.8, 4.5, 4.5, 4.7)
SCALE = (4.6, 2.8, 0.75, 2.0, 1.7)
"""Half-way between, and half the distance of, short and long trainings: 64 steps on 1,000 images and 200 epochs on 50,000;
in powers of two."""

BENCHMARK = TrainingBudget(39_200, 50_000, 32, 10, 80)
"""The long training of NAS-Bench-201, and the recipe of ``ednag retrain``: 200 epochs on the images of CIFAR."""


@dataclass(frozen=True)
class PlannedTraining:
    """The training that a user plans for what is generated; the images tell the rest.

    Attributes:
        epochs: passes over the training images.
        channels: of the network, after the stem.
        cells: of the network, a stage.

    Raises:
        ValueError: if a number is below 1.
    """

    epochs: int = 200
    channels: int = 16
    cells: int = 5

    def __post_init__(self) -> None:
        if min(self.epochs, self.channels, self.cells) < 1:
            raise ValueError(f"budget needs epochs, channels and cells >= 1, got {self}")

    def on(self, data: pl.LightningDataModule) -> TrainingBudget:
        """Work out the budget on some images: their number, size and classes, and the size of a batch.

        Raises:
            ValueError: if the data module doesn't tell.
        """
        (_, height, width), classes = image_shape(data)
        loader: Any = data.train_dataloader()
        try:
            images, steps = len(loader.dataset), self.epochs * len(loader)
        except (AttributeError, TypeError):
            raise ValueError(
                f"{type(data).__name__} doesn't tell how many training images it has: its training loader and that "
                "loader's dataset need a length"
            ) from None
        return TrainingBudget(steps, images, math.sqrt(height * width), classes, self.channels * self.cells)


def budget_of_rows(content: Mapping[str, Any], images: int, image_size: int, classes: int) -> TrainingBudget:
    """Work out the budget of trainings of ``ednag collect``.

    Args:
        content: ``budget`` of its ``rows.npz``; what it doesn't tell is as in the shipped meta data, see
            data/meta/README.md. Options that ``network`` leaves out are the space's own, NAS-Bench-201's.
        images: training images of the task.
        image_size: their side in pixels.
        classes: of the task.
    """
    network = content.get("network", {"channels": 8, "cells": 1})
    capacity = float(network.get("channels", 16)) * float(network.get("cells", 5))
    return TrainingBudget(float(content.get("steps", 64)), images, image_size, classes, capacity)


def outside(budget: TrainingBudget, low: TrainingBudget, high: TrainingBudget) -> str:
    """Say which numbers of a budget are out of a range, and the range; empty if none is."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value:,.0f}, learned {least:,.0f} to {most:,.0f}"
        for (name, value), least, most in zip(vars(budget).items(), astuple(low), astuple(high), strict=True)
        if not 0.99 * least <= value <= 1.01 * most
    )
