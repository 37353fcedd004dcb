"""Fine-tuning: a network begins with inherited weights, adapted on the task's images, and a head in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ednag.data.sampling import image_batch, image_shape
from ednag.fitness.discriminant import Head, best_scale, cross_validated, fit_discriminant
from ednag.fitness.probe import check_normalisation
from ednag.spaces import SearchSpace
from ednag.spaces.adaptation import Adaptation
from ednag.spaces.inheritance import InheritingSpace, Parent
from ednag.spaces.inverted_residual import InvertedResidualNetwork
from ednag.spaces.matching import chunked

MOST_VALUES = 2**28
"""Most values, over all images, that a head is fitted to: 1 GiB of floats."""


@dataclass(frozen=True)
class FineTuning:
    """How a network with inherited weights is prepared, and what of it is trained when.

    Attributes:
        calibration: training images that inherited weights are adapted on (:mod:`ednag.spaces.adaptation`).
        head_images: training images that the first head is fitted to, by linear discriminant analysis.
        shrinkage: of its covariance.
        head_epochs: first epochs, in which the head alone is trained.
        frozen_stages: first stages, the stem's included, that keep their weights to the end; 0 trains all.
        train_norms: whether batch normalisation follows the images of training batches, and trains its scales and shifts.
        through_parent: fine-tune the parent first, by the same recipe; sub-networks are cut out of it and taught by it.
        members: weight of the loss of a random member of the space, a new one in each step, that is run inside the parent while that is
            fine-tuned and learns to say the same (in-place distillation, Yu & Huang 2019): what is cut out of it then
            loses less, at twice the time; 0 for none.
        distillation: share of the loss that is the divergence from what the parent says, prepared in the same way (Hinton
            et al. 2015); 0 for none.
        temperature: of both sides of that divergence.

    Raises:
        ValueError: for a value out of range.

    Examples:
        >>> FineTuning(frozen_stages=0).head_epochs
        0
    """

    calibration: int = 1024
    head_images: int = 4000
    shrinkage: float = 0.3
    head_epochs: int = 0
    frozen_stages: int = 3
    train_norms: bool = False
    through_parent: bool = False
    members: float = 0.0
    distillation: float = 0.0
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if min(self.calibration, self.head_images) < 8 or min(self.head_epochs, self.frozen_stages) < 0:
            raise ValueError(
                "need fine_tuning.calibration and head_images >= 8, head_epochs and frozen_stages >= 0; got "
                f"{self.calibration}, {self.head_images}, {self.head_epochs} and {self.frozen_stages}"
            )
        if not 0 <= self.members < math.inf:
            raise ValueError(f"fine_tuning.members must be >= 0 and finite, got {self.members}")
        if not 0 < self.shrinkage <= 1 or not 0 <= self.distillation <= 1 or self.temperature <= 0:
            raise ValueError(
                "need fine_tuning.shrinkage in (0, 1], distillation in [0, 1] and temperature > 0; got "
                f"{self.shrinkage}, {self.distillation} and {self.temperature}"
            )

    def begin(
        self,
        network: nn.Module,
        space: SearchSpace,
        data: pl.LightningDataModule,
        options: Mapping[str, Any] | None = None,
        parent: Parent | None = None,
    ) -> None:
        """Give a network its weights and its head, on the CPU.

        Args:
            network: as built by ``space``.
            space: whose networks inherit weights.
            data: images of the task, outside a Trainer.
            options: what it was built with.
            parent: weights to inherit, the space's own if omitted.

        Raises:
            ValueError: if networks of the space inherit nothing, or images are not normalised as the parent's were.
            ImportError: if the parent's weights are not installed.
        """
        if not isinstance(space, InheritingSpace) or not isinstance(network, InvertedResidualNetwork):
            raise ValueError(
                f"recipe.fine_tuning is for networks that inherit weights, as PretrainedLite's do; those of {space.name} "
                "begin with random ones: leave it out"
            )
        data.prepare_data()
        data.setup("fit")
        shape, _ = image_shape(data)
        batch = image_batch(data, min(self.head_images, MOST_VALUES // math.prod(shape)))
        check_normalisation(space, data)
        with torch.inference_mode(False), torch.no_grad():
            Adaptation(space, batch.images[: self.calibration], network=options, parent=parent).adapt(network)
            features = chunked(network.features, batch.images)
            other = None
            if parent is not None:  # which knows the training images by heart: what it is sure of there says nothing
                unseen = image_batch(data, len(batch.labels), split="val")
                other = chunked(network.features, unseen.images), unseen.labels
            head = scaled_head(features, batch.labels, batch.num_classes, self.shrinkage, other)
            linear = cast("nn.Linear", network.classifier.get_submodule("linear"))
            linear.weight.copy_(head.weight)
            known = head.bias[head.bias.isfinite()]
            linear.bias.copy_(head.bias.clamp_min(known.min() - 5))  # of a class without an image
            network.train()

    def of_parent(self) -> FineTuning:
        """How the parent itself is fine-tuned: by nobody taught."""
        return replace(self, through_parent=False, distillation=0.0)


class Freezing(pl.Callback):
    """Lets only those parts of a network learn that :class:`FineTuning` says, epoch by epoch.

    Args:
        options: what is trained when.
    """

    def __init__(self, options: FineTuning) -> None:
        self.options = options

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set what learns in this epoch."""
        network = cast("InvertedResidualNetwork", pl_module.network)
        head_only = trainer.current_epoch < self.options.head_epochs
        network.requires_grad_(not head_only)
        network.classifier.requires_grad_(True)
        frozen: list[nn.Module] = []
        if self.options.frozen_stages:
            stages = network.stages()[: self.options.frozen_stages]
            frozen = [network.first_conv, *(block for stage in stages for _, block in stage)]
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                learns = self.options.train_norms and not head_only
                module.train(learns).requires_grad_(learns)
        for module in frozen:
            module.eval().requires_grad_(False)


def scaled_head(
    features: Tensor, labels: Tensor, num_classes: int, shrinkage: float, other: tuple[Tensor, Tensor] | None = None
) -> Head:
    """Fit a head whose logits are as sure as they are right: scaled to the least cross-entropy of images it was not fitted to.

    Args:
        features: ``(n, F)``.
        labels: int64 ``(n,)``.
        num_classes: number of labels.
        shrinkage: see :func:`ednag.fitness.discriminant.fit_discriminant`.
        other: features and labels of other images that set the scale; those of the folds of a cross-validation if omitted.
    """
    head = fit_discriminant(features, labels, num_classes, shrinkage)
    if other is None:
        logits, true = cross_validated(features, labels, num_classes, shrinkage), labels
    else:
        logits, true = head(other[0]), other[1]
    best, _ = best_scale(logits, true)
    return Head(best * head.weight, best * head.bias)


def divergence(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence from a teacher's distribution, times the temperature squared (Hinton et al. 2015)."""
    own, target = (F.log_softmax(some / temperature, -1) for some in (logits, teacher))
    return F.kl_div(own, target, reduction="batchmean", log_target=True) * temperature**2
