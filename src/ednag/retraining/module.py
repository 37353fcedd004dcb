"""Training one network to classify images: the recipe, and the LightningModule that follows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from ednag.core.fingerprint import is_plain
from ednag.core.noise import Noise
from ednag.data.files import Batch
from ednag.retraining.finetuning import FineTuning, divergence
from ednag.retraining.progress import Weights
from ednag.spaces.inheritance import InheritingSpace
from ednag.spaces.inside import run_inside
from ednag.spaces.inverted_residual import InvertedResidualNetwork
from ednag.spaces.memory_format import fast_layout

CHECK_EVERY = 50
"""On an accelerator the loss is looked at every so many steps: reading it makes the device wait."""


class NonFiniteLoss(RuntimeError):  # noqa: N818
    """The training loss became infinite or NaN; more training can't repair the network."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the full recipe of NAS-Bench-201 by default (Dong & Yang 2020, table 2).

    Attributes:
        epochs: passes over the training images; with ``fine_tuning``, 0 keeps what a network begins with.
        lr: first learning rate of the default optimizer (SGD with Nesterov momentum).
        momentum: its momentum.
        weight_decay: its weight decay, on every parameter.
        optimizer: another optimizer, with its own arguments; ``lr``, ``momentum`` and ``weight_decay`` are then unused.
        lr_scheduler: another schedule; the learning rate falls to 0 along a half cosine if omitted.
        warmup_epochs: first epochs, in which the rate rises evenly from 0, before that half cosine; fewer than ``epochs``.
        schedule_every: whether the schedule advances with each ``step`` or each ``epoch``.
        label_smoothing: share of the target that is spread over all classes, in 0..1 (Szegedy et al. 2016).
        mixup: alpha of the Beta distribution that mixes pairs of images (Zhang et al. 2018); 0 for none.
        auxiliary_weight: weight of the auxiliary head's loss, for networks that return one (0.4 in DARTS).
        channels_last: memory layout; on CPUs about 1.5 times as fast as the other. Networks that it would crash
            (:func:`ednag.spaces.memory_format.suits_channels_last`) are trained in the other.
        weights: which weights are tested and exported: the ``last``, as in the benchmarks; the ``best`` by validation
            accuracy, where with ``fine_tuning`` the weights before training count as an epoch of their own; the
            ``better`` of the last and those before training; or, with ``fine_tuning``, of these two and three mixtures of
            them (Wortsman et al. 2022, alpha .25, .5 and .75) the ``likeliest``, which have the least validation loss.
            Where validation images are few, the best of many epochs by accuracy is one that was lucky.
        fine_tuning: for networks that inherit weights: how they begin, and what of them is trained; see
            :class:`FineTuning`.

    Examples:
        >>> Recipe(epochs=12, label_smoothing=0.1).settings()["lr"]
        0.1
    """

    epochs: int = 200
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    optimizer: OptimizerCallable | None = None
    lr_scheduler: LRSchedulerCallable | None = None
    warmup_epochs: int = 0
    schedule_every: Literal["step", "epoch"] = "step"
    label_smoothing: float = 0.0
    mixup: float = 0.0
    auxiliary_weight: float = 0.4
    channels_last: bool = True
    weights: Weights = "last"
    fine_tuning: FineTuning | None = None

    def __post_init__(self) -> None:
        least = 1 if self.fine_tuning is None else 0
        if self.epochs < least:
            raise ValueError(f"recipe.epochs must be >= {least}, got {self.epochs}")
        if self.weights == "likeliest" and self.fine_tuning is None:
            raise ValueError(
                "recipe.weights: likeliest is for recipe.fine_tuning, where weights before training are worth something; use last"
            )
        if self.warmup_epochs < 0 or (self.warmup_epochs and self.lr_scheduler is not None):
            raise ValueError(
                f"recipe.warmup_epochs must be >= 0, and belongs to the default schedule; got {self.warmup_epochs} with "
                f"{'that' if self.lr_scheduler is None else 'another'}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"recipe.label_smoothing must be in [0, 1), got {self.label_smoothing}")
        for name in ("lr", "momentum", "weight_decay", "mixup", "auxiliary_weight"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"recipe.{name} must be >= 0 and finite, got {value}")

    def settings(self) -> dict[str, Any]:
        """Fields as primitives; of an optimizer or schedule of the user's, its class and all its settings."""
        plain = {name: value for name, value in vars(self).items() if not callable(value) and name != "fine_tuning"}
        if self.fine_tuning is not None:
            plain["fine_tuning"] = vars(self.fine_tuning)
        optimizer = (self.optimizer or SGD)([nn.Parameter(torch.zeros(1))])
        if self.optimizer is not None:
            plain["optimizer"] = _made(optimizer, optimizer.defaults)
        if self.lr_scheduler is not None:
            schedule = self.lr_scheduler(optimizer)
            plain["lr_scheduler"] = _made(schedule, vars(schedule))
        return plain


def _made(thing: object, values: Mapping[str, Any]) -> dict[str, Any]:
    """Class and primitive settings of an optimizer or a schedule."""
    plain = {name: value for name, value in values.items() if is_plain(value) and not name.startswith("_")}
    return {"class": type(thing).__name__, **plain}


class ImageClassifier(pl.LightningModule):
    """A network with its loss, optimizer and metrics.

    Logged for ``val`` and ``test``: ``top1`` and ``top5`` (percent; of 5 or, if there are fewer, all classes),
    ``calibration_error`` (expected, 15 bins, 0..1; Guo et al. 2017) and ``nll`` (nats), the metrics over all images.

    Args:
        network: maps float images ``(B, C, H, W)`` to logits ``(B, num_classes)``; while training it may return a
            pair: logits and those of an auxiliary head.
        num_classes: number of labels.
        recipe: how to train.
        seed: of mixup.
        teacher: for distillation: a trained network that stays as it is; see :class:`FineTuning`.
        space: whose parent the network is, if random members of it learn with it; see :class:`FineTuning`.

    Raises:
        NonFiniteLoss: while training, if the loss becomes infinite or not a number.

    Examples:
        >>> from ednag.spaces import NASBench201
        >>> network = NASBench201().build(torch.tensor([3] * 6), num_classes=10, channels=4, cells=1)
        >>> classifier = ImageClassifier(network, num_classes=10, recipe=Recipe(epochs=1))
        >>> classifier(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 10])
    """

    failed: Tensor

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        recipe: Recipe | None = None,
        seed: int = 0,
        teacher: nn.Module | None = None,
        space: InheritingSpace | None = None,
    ) -> None:
        super().__init__()
        self.recipe = recipe or Recipe()
        self.memory_format = fast_layout(network) if self.recipe.channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)
        self.num_classes = num_classes
        self.seed = seed
        self._space = space
        self._teacher = None if teacher is None else [teacher.eval().requires_grad_(False)]  # a list: not of the state
        self.val_metrics = _metrics(num_classes, "val/")
        self.test_metrics = _metrics(num_classes, "test/")
        self.register_buffer("failed", torch.tensor(False), persistent=False)

    def forward(self, images: Tensor) -> Any:
        """Return the network's logits for images ``(B, C, H, W)`` (a pair while training, if it has two heads)."""
        return self.network(self._laid_out(images))

    def _laid_out(self, images: Tensor) -> Tensor:
        """Images in the network's precision and memory layout."""
        images = images.to(cast(torch.dtype, self.dtype)).contiguous(
            memory_format=self.memory_format
        )  # of a true precision
        if images.shape[1] == 1 and self.memory_format == torch.contiguous_format:
            images = images.clone(memory_format=self.memory_format)  # one channel may count as both layouts
        return images

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy with label smoothing.

        Raises:
            ValueError: for a label that is no class (on a CPU; elsewhere the device says so itself).
        """
        try:
            return F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        except IndexError as error:
            raise ValueError(f"a training label is not 0 to {self.num_classes - 1}: {error}") from None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, mixed up and with the auxiliary head's if there is one."""
        images, labels = batch
        share = self._mixing(batch_idx)
        if share < 1:
            images = images.lerp(images.flip(0), 1 - share)
        out = self(images)
        heads = out if isinstance(out, tuple) else (out,)
        loss = torch.zeros((), device=images.device)
        for weight, logits in zip((1.0, self.recipe.auxiliary_weight), heads, strict=False):
            loss = loss + weight * share * self.loss(logits, labels)
            if share < 1:
                loss = loss + weight * (1 - share) * self.loss(logits, labels.flip(0))
        if self._teacher is not None and self.recipe.fine_tuning is not None:
            options, teacher = self.recipe.fine_tuning, self._teacher[0].to(images.device)
            with torch.no_grad():
                said = teacher(images)
            loss = loss.lerp(divergence(heads[0], said, options.temperature), options.distillation)
        if self._space is not None and self.recipe.fine_tuning is not None:
            part = self._member(self._space, images, batch_idx)
            loss = loss + self.recipe.fine_tuning.members * divergence(part, heads[0].detach(), 1.0)
        self._watch(loss.detach(), batch_idx)
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def _member(self, space: InheritingSpace, images: Tensor, batch_idx: int) -> Tensor:
        """What a random member of the space says of images, inside its parent; by seed, epoch and batch."""
        drawn = np.random.default_rng((self.seed, self.current_epoch, batch_idx, 1)).integers(2**62)
        genes = space.random(Noise([int(drawn)]), 1)[0, 0]
        return run_inside(cast("InvertedResidualNetwork", self.network), space.plan(genes), self._laid_out(images))

    def on_train_epoch_start(self) -> None:
        """Tell a network that changes with training, as by drop-path, how far it is."""
        advance = getattr(self.network, "set_progress", None)
        if callable(advance):
            advance(self.current_epoch / self.recipe.epochs)

    def on_train_epoch_end(self) -> None:
        """Look at the losses of the epoch's last steps, which no check has seen."""
        self._refuse_failure()

    def _watch(self, loss: Tensor, batch_idx: int) -> None:
        """Remember a non-finite loss on the device, and look now and then."""
        self.failed = self.failed | ~loss.isfinite()
        if loss.device.type == "cpu" or batch_idx % CHECK_EVERY == 0:
            self._refuse_failure()

    def _refuse_failure(self) -> None:
        if bool(self.failed):
            raise NonFiniteLoss(
                f"the training loss is not finite (epoch {self.current_epoch}, step {self.global_step})"
            )

    def _mixing(self, batch_idx: int) -> float:
        """Share of the first image in each mixed pair: from Beta(alpha, alpha), by seed, epoch and batch."""
        if self.recipe.mixup == 0:
            return 1.0
        stream = np.random.default_rng((self.seed, self.current_epoch, batch_idx))
        return float(stream.beta(self.recipe.mixup, self.recipe.mixup))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        self._measure(self.val_metrics, batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Add a batch to the test metrics, and return the class probabilities, ``(B, num_classes)``."""
        return self._measure(self.test_metrics, batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Class probabilities, ``(B, num_classes)``."""
        probabilities: Tensor = self(batch[0]).float().softmax(-1)
        return probabilities

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._report(self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._report(self.test_metrics)

    def _measure(self, metrics: MetricCollection, batch: Batch) -> Tensor:
        images, labels = batch
        logits = self(images).float()
        probabilities: Tensor = logits.softmax(-1)
        for name, metric in metrics.items(keep_base=True):
            if name == "nll":
                metric.update(F.cross_entropy(logits, labels, reduction="none"))
            else:
                metric.update(probabilities, labels)
        return probabilities

    def _report(self, metrics: MetricCollection) -> None:
        """Log what the epoch's batches add up to, accuracies in percent."""
        values = {name: 100 * value if "top" in name else value for name, value in metrics.compute().items()}
        for name, value in values.items():
            self.log(name, value, prog_bar=name.endswith("top1"))
        metrics.reset()

    def configure_optimizers(self) -> Any:
        """Follow the recipe: its own optimizer and schedule, or SGD and a cosine to 0."""
        recipe, parameters = self.recipe, self.network.parameters()
        optimizer: Optimizer = (
            SGD(parameters, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.momentum > 0)
            if recipe.optimizer is None
            else recipe.optimizer(parameters)
        )
        if recipe.lr_scheduler is None:
            total = int(self.trainer.estimated_stepping_batches)
            length = total if recipe.schedule_every == "step" else recipe.epochs
            schedule: Any = _warmed_cosine(optimizer, length, length * recipe.warmup_epochs // max(recipe.epochs, 1))
        else:
            schedule = recipe.lr_scheduler(optimizer)
        entry: dict[str, Any] = {"scheduler": schedule, "interval": recipe.schedule_every}
        if hasattr(schedule, "monitor"):
            entry["monitor"] = schedule.monitor
        return {"optimizer": optimizer, "lr_scheduler": entry}


def _warmed_cosine(optimizer: Optimizer, length: int, warm: int) -> LRScheduler:
    """A half cosine to 0 over ``length`` turns, the first ``warm`` of which rise evenly from 0."""
    warm = min(warm, length - 1)
    if warm < 1:
        return CosineAnnealingLR(optimizer, T_max=length)
    rate = np.concatenate(
        [np.arange(1, warm + 1) / (warm + 1), (1 + np.cos(np.linspace(0, np.pi, length - warm + 1))) / 2]
    )
    return LambdaLR(optimizer, lambda turn: float(rate[min(turn, length)]))


def _metrics(num_classes: int, prefix: str) -> MetricCollection:
    """Metrics of one split; computed without the shortcut of shared states, as they are updated one by one."""
    return MetricCollection(
        {
            "top1": MulticlassAccuracy(num_classes, average="micro"),
            "top5": MulticlassAccuracy(num_classes, top_k=min(5, num_classes), average="micro"),
            "calibration_error": MulticlassCalibrationError(num_classes, n_bins=15),
            "nll": MeanMetric(),
        },
        prefix=prefix,
        compute_groups=False,
    )
