"""Fitness by training: each architecture is trained briefly on the task's images, and scored by validation accuracy."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ednag.data.sampling import Images, open_pool
from ednag.fitness.base import Fitness
from ednag.predictor.tasks import TaskDefinition, TaskImages, draw
from ednag.spaces import SearchSpace
from ednag.spaces.building import architecture_seed, build_network, check_options, representative
from ednag.spaces.memory_format import fast_layout


@dataclass(frozen=True)
class Budget:
    """What one short training may spend; the same for every architecture.

    Stochastic gradient descent with Nesterov momentum 0.9, a learning rate that rises for a fifth of the steps and
    falls to zero by a cosine, and nothing else: no augmentation, no early stopping.

    Attributes:
        steps: of the optimiser: the same for few and for many images.
        batch_size: images a step.
        learning_rate: its peak.
        weight_decay: of all parameters.
    """

    steps: int = 160
    batch_size: int = 64
    learning_rate: float = 0.1
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        if self.steps < 2 or self.batch_size < 2 or self.learning_rate <= 0 or self.weight_decay < 0:
            raise ValueError(
                f"need steps and batch_size >= 2, learning_rate > 0 and weight_decay >= 0, got {self.steps}, "
                f"{self.batch_size}, {self.learning_rate} and {self.weight_decay}"
            )


class TrainingFitness(Fitness):
    """Validation accuracy in percent after a short training of each architecture.

    Images are held in memory at a small size; test accuracy is measured along the way, and sealed until the end.

    Args:
        budget: of each training; the defaults if omitted.
        images: most images of each split, ``{"train": .., "val": .., "test": ..}``, drawn evenly from the classes.
        image_size: side in pixels that images are scaled to.
        network: options of the space's networks, such as ``{"channels": 8, "cells": 1}``.
        seed: of the draw of images; with the architecture's identity, of its weights and the order of its images.

    Examples:
        >>> from ednag.data import Digits
        >>> from ednag.spaces import NASBench201
        >>> fitness = TrainingFitness(Budget(steps=8, batch_size=32), image_size=8, network={"channels": 4, "cells": 1})
        >>> fitness.setup(NASBench201(), Digits(image_size=8))
        >>> bool(fitness.score(torch.tensor([[3] * 6])) > 10)  # ten classes
        True
    """

    name = "validation accuracy (%)"
    parallel = True

    def __init__(
        self,
        budget: Budget | None = None,
        images: dict[str, int] | None = None,
        image_size: int = 16,
        network: dict[str, int] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.budget = budget or Budget()
        self.images = {"train": 1000, "val": 1000, "test": 1000, **(images or {})}
        self.image_size = image_size
        self.network = dict(network or {})
        self.seed = seed
        self._tested: dict[int, float] = {}

    def setup(
        self, space: SearchSpace, data: pl.LightningDataModule | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Read the task's images.

        Raises:
            ValueError: if there are none, or the space's networks lack an option.
        """
        if data is None:
            raise ValueError("training needs images: --data CIFAR10 (or CIFAR100, ImageFolder, Digits, a class path)")
        pool = open_pool(data, self.image_size)
        task = TaskDefinition(
            "task", type(data).__name__, tuple(range(pool.num_classes)), self.image_size, self.image_size, False,
            self.seed, self.images,
        )  # fmt: skip
        self.begin(space, draw(pool, task)[1], device)

    def begin(self, space: SearchSpace, images: TaskImages, device: torch.device | str = "cpu") -> None:
        """As :meth:`setup`, with the images of a task at hand."""
        super().setup(space, device=device)
        check_options(space, self.network)
        self._task = TaskImages(*(standardised(part, images.train, device) for part in images))

    def score(self, genes: Tensor) -> Tensor:
        """Train architectures one after the other, see :meth:`Fitness.score`."""
        return torch.tensor([self.train(one)["valid"] for one in genes], dtype=torch.float64, device=genes.device)

    def standard_error(self, genes: Tensor, scores: Tensor) -> Tensor:
        """Binomial error of an accuracy on so many validation images, see :meth:`Fitness.standard_error`.

        Luck of the training itself is not in it; a sampler judges that from all scores.
        """
        share = (scores / 100).clamp(0, 1)
        return 100 * (share * (1 - share) / len(self._task.val.labels)).sqrt()

    def train(self, genes: Tensor) -> dict[str, float]:
        """Train one architecture, int64 ``(L,)``; the same numbers each time on one kind of machine.

        Returns:
            ``valid`` and ``test`` accuracy in percent, ``seconds``, and the ``seed``.
        """
        begun = time.perf_counter()
        key = int(self.space.identity(genes))
        seed = architecture_seed(self.seed, key)
        num_classes = int(self._task.train.labels.max()) + 1
        with torch.inference_mode(False), torch.enable_grad():
            chosen = representative(self.space, genes[None])[0]
            network = build_network(self.space, chosen, num_classes, 3, self.network, seed)
            layout = fast_layout(network)
            network = network.to(self.device, memory_format=layout)  # type: ignore[call-overload]
            train, val, test = (
                part if layout is torch.channels_last else Images(part.pixels.clone(memory_format=layout), part.labels)
                for part in self._task
            )
            fit(network, train, self.budget, seed)
        valid, tested = accuracy(network, val), accuracy(network, test)
        self._tested[key] = tested
        return {"valid": valid, "test": tested, "seconds": time.perf_counter() - begun, "seed": seed}

    def measure(self, genes: Tensor) -> dict[str, Any]:
        """Train one architecture in another process, see :meth:`Fitness.measure`; what :meth:`train` returns, and ``score``."""
        found = self.train(genes)
        return {"score": found["valid"], **found}

    def remember(self, genes: Tensor, found: Mapping[str, Any]) -> None:
        """Take in a training, see :meth:`Fitness.remember`."""
        if "test" in found:
            self._tested[int(self.space.identity(genes))] = found["test"]
        super().remember(genes, found)

    def reveal(self, genes: Tensor) -> dict[str, Tensor]:
        """Test accuracy of trained architectures, in percent; see :meth:`Fitness.reveal`."""
        super().reveal(genes)
        keys = self.space.identity(genes).tolist()
        tested = torch.tensor([self._tested.get(key, torch.nan) for key in keys], dtype=torch.float64)
        return {"test accuracy (%)": tested.to(genes.device)}

    def state_dict(self) -> dict[str, Any]:
        """Scores, counts and test accuracies so far."""
        return {**super().state_dict(), "tested": self._tested}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved."""
        super().load_state_dict(state)
        self._tested = dict(state["tested"])


def standardised(part: Images, train: Images, device: torch.device | str = "cpu") -> Images:
    """Turn 8-bit images into floats of zero mean and unit deviation per channel of the training images."""
    pixels = train.pixels.float()
    deviation, mean = torch.std_mean(pixels, (0, 2, 3), keepdim=True, correction=0)
    scaled = (part.pixels.float() - mean) / deviation.clamp(min=0.5)
    scaled = scaled.to(device).contiguous(memory_format=torch.channels_last)
    return Images(scaled.clone(memory_format=torch.preserve_format), part.labels.to(device).clone())


def fit(network: nn.Module, images: Images, budget: Budget, seed: int) -> None:
    """Train a network in place, see :class:`Budget`.

    Lightning's Trainer takes longer to start than such a training takes, hence a plain loop.

    Args:
        network: where the images are.
        images: float ``(n, C, S, S)`` and labels.
        budget: how long and how.
        seed: of the order of the images.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(
        network.parameters(), budget.learning_rate, momentum=0.9, nesterov=True, weight_decay=budget.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: relative_rate(step, budget.steps))
    network.train()
    for index in batches(len(images.labels), budget, generator):
        index = index.to(images.labels.device)
        loss = F.cross_entropy(network(images.pixels[index]), images.labels[index])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()


def relative_rate(step: int, steps: int) -> float:
    """Learning rate of a step, from 0, relative to its peak: up in a straight line, then down to zero by a cosine."""
    rise = max(steps // 5, 1)
    if step < rise:
        return (step + 1) / (rise + 1)
    return (1 + math.cos(math.pi * (step - rise) / (steps - rise))) / 2


def batches(count: int, budget: Budget, generator: torch.Generator) -> Sequence[Tensor]:
    """Indices of the images of each step: random orders of all of them, one after the other, cut into equal pieces."""
    needed = budget.steps * budget.batch_size
    orders = [torch.randperm(count, generator=generator) for _ in range(-(-needed // count))]
    return torch.split(torch.cat(orders)[:needed], budget.batch_size)


@torch.no_grad()
def accuracy(network: nn.Module, images: Images, batch: int = 500) -> float:
    """Share of images that a network labels correctly, in percent."""
    network.eval()
    pairs = zip(torch.split(images.pixels, batch), torch.split(images.labels, batch), strict=True)
    hits = sum(int((network(pixels).argmax(1) == labels).sum()) for pixels, labels in pairs)
    return 100.0 * hits / len(images.labels)
