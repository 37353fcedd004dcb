"""Fitness without training: how well a closed-form head tells the task's classes by a sub-network's inherited features."""

from __future__ import annotations

import hashlib
import logging
import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.data.sampling import image_batch
from ednag.fitness.base import Fitness
from ednag.fitness.discriminant import best_scale, cross_validated
from ednag.spaces import SearchSpace
from ednag.spaces.adaptation import Adaptation
from ednag.spaces.building import check_options, count_in_closed_form
from ednag.spaces.inheritance import InheritingSpace, Parent

log = logging.getLogger(__name__)

LEAST = 24
"""Images that a probe needs."""


class ProbeFitness(Fitness):
    """Accuracy in percent of linear discriminant analysis on a sub-network's features, cross-validated, corrected for size.

    Each sub-network inherits its parent's weights and is adapted on one part of the training images
    (:class:`~ednag.spaces.adaptation.Adaptation`); the head is fitted and judged on another part, since accuracy on images
    that weights were adapted on flatters. What sub-networks have in common from their first layer on is computed once.

    Where many sub-networks are right for the same number of images, the cross-entropy ``h`` of their logits (in nats, at
    the scale that makes it least) tells them apart: ``h / (1 + h)`` of one image is deducted, which is less than one.

    Of a parent that was fine-tuned on the task's images (:meth:`inherit`), the probe says what a cut leaves of what it has
    learned. That ranks sub-networks as they end, where the space's own weights don't (``docs/results.md``).

    A larger network gains more by fine-tuning than its probe says. So the odds of an error are multiplied by ``s ** -size``,
    ``s`` the share of the parent's multiply-accumulates: by 1.19 for half of them, at the default (``docs/results.md``
    says what it rests on). What the probe itself said is among the details.

    Args:
        images: training images that are looked at, at most; the first that the data module's loader yields.
        calibration: share of them that weights are adapted on, in (0, 1), 256 images at most.
        shrinkage: of the covariance, see :func:`~ednag.fitness.discriminant.fit_discriminant`.
        folds: of the cross-validation.
        repeats: cuts into folds, over which accuracy is averaged.
        network: options of the space's networks.
        seed: of the cuts.
        memory: MiB of activations that are kept for other sub-networks.
        size: how much size counts, see above; 0 for the probe alone.

    Raises:
        ValueError: for an option out of range.

    Examples:
        >>> ProbeFitness(images=500).name  # images are looked at in setup
        'probe accuracy, corrected for size (%)'
    """

    name = "probe accuracy, corrected for size (%)"

    def __init__(
        self,
        images: int = 1000,
        calibration: float = 0.25,
        shrinkage: float = 0.3,
        folds: int = 2,
        repeats: int = 3,
        network: dict[str, Any] | None = None,
        seed: int = 0,
        memory: int = 1024,
        size: float = 0.25,
    ) -> None:
        super().__init__()
        if images < LEAST or not 0 < calibration < 1 or not 0 < shrinkage <= 1:
            raise ValueError(
                f"need images >= {LEAST}, calibration in (0, 1) and shrinkage in (0, 1], got {images}, {calibration} and "
                f"{shrinkage}"
            )
        if folds < 2 or repeats < 1 or memory < 1:
            raise ValueError(f"need folds >= 2, repeats >= 1 and memory >= 1, got {folds}, {repeats} and {memory}")
        self.images, self.calibration, self.shrinkage = images, calibration, shrinkage
        self.folds, self.repeats, self.seed, self.memory = folds, repeats, seed, memory
        if size < 0:
            raise ValueError(f"size must be >= 0, got {size}")
        self.network, self.size = dict(network or {}), size
        self._losses: dict[int, float] = {}
        self._accuracies: dict[int, float] = {}
        self._parent: Parent | None = None

    def inherit(self, parent: Parent) -> None:
        """Cut sub-networks out of these weights, in place of the space's own; called before :meth:`setup`.

        Args:
            parent: such as the space's, fine-tuned on the training images.
        """
        self._parent = parent

    def setup(
        self, space: SearchSpace, data: pl.LightningDataModule | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Read the parent's weights and the images; see :meth:`Fitness.setup`.

        Raises:
            ValueError: if the networks of the space inherit nothing, or images are missing, too few, of a class alone, or
                not normalised as the parent's were.
            ImportError: if the parent's weights are not installed.
            FileNotFoundError: if they are missing.
        """
        super().setup(space, data, device)
        if not isinstance(space, InheritingSpace):
            raise ValueError(
                f"{type(self).__name__} needs sub-networks that inherit weights, as PretrainedLite's do; those of "
                f"{space.name} begin with random ones"
            )
        if data is None:
            raise ValueError("a probe needs images of the task: --data ImageFolder --data.root FOLDER")
        check_options(space, self.network)
        batch = image_batch(data, self.images, self.device)
        check_normalisation(space, data)
        self._check_labels(batch.labels, data)
        count = min(256, max(int(self.calibration * len(batch.labels)), 8))
        self._labels, self._classes = batch.labels[count:], batch.num_classes
        digest = hashlib.sha256(batch.images.cpu().numpy().tobytes())
        for value in self._parent.state.values() if self._parent is not None else ():
            digest.update(value.cpu().numpy().tobytes())
        self._digest = digest.hexdigest()
        with torch.inference_mode(False), torch.no_grad():
            images = batch.images.clone()
            self._adaptation = Adaptation(
                space,
                images[:count],
                images[count:],
                memory=self.memory * 2**20,
                network=self.network,
                parent=self._parent,
            )
        self._space, self._shape = space, batch.shape

    def _check_labels(self, labels: Tensor, data: pl.LightningDataModule) -> None:
        """Refuse too few images, and classes that folds can't share."""
        name = type(data).__name__
        if len(labels) < LEAST:
            raise ValueError(f"a probe needs {LEAST} training images or more, {name} has {len(labels)}")
        kinds = len(torch.unique(labels))
        if kinds < 2:
            raise ValueError(f"a probe needs images of two classes or more, {name} gave {kinds}")

    def score(self, genes: Tensor) -> Tensor:
        """Score distinct, valid architectures, int64 ``(n, L)``, in percent."""
        keys = self.space.identity(genes).tolist()
        scores = [self._probe(key, row) for key, row in zip(keys, genes.cpu(), strict=True)]
        return torch.tensor(scores, dtype=torch.float64, device=genes.device)

    def _probe(self, key: int, genes: Tensor) -> float:
        """Score one architecture, int64 ``(L,)``."""
        with torch.inference_mode(False), torch.no_grad():
            network = self._space.build(genes, self._classes, in_channels=self._shape[0], **self.network)
            features = self._adaptation.adapt(network.to(self.device))
            cuts = [
                cross_validated(features, self._labels, self._classes, self.shrinkage, self.folds, self.seed + repeat)
                for repeat in range(self.repeats)
            ]
        labels = self._labels.repeat(self.repeats)
        logits = torch.cat(cuts)
        hits = int((logits.argmax(1) == labels).sum())
        self._losses[key] = loss = best_scale(logits, labels)[1]
        self._accuracies[key] = accuracy = (hits - loss / (1 + loss)) / len(labels)
        right = accuracy * math.pow(self._share(genes), self.size)
        return min(100 * right / (right + 1 - accuracy), 100 * accuracy)

    def _share(self, genes: Tensor) -> float:
        """Share of the parent's multiply-accumulates; 1 where the space can't count them in closed form."""
        both = torch.stack([genes, self._space.largest])
        counted = count_in_closed_form(self._space, both, self._classes, self._shape, self.network)
        return 1.0 if counted is None else float(counted[0, 1]) / float(counted[1, 1])

    def details(self, genes: Tensor) -> dict[str, Tensor]:
        """Accuracy of the probe in percent, and cross-entropy in nats at its best scale, ``(n,)``; NaN if not scored."""
        keys = self.space.identity(genes).tolist()
        parts = {"probe_accuracy": (100, self._accuracies), "probe_nll": (1, self._losses)}
        found = {name: [unit * known.get(key, math.nan) for key in keys] for name, (unit, known) in parts.items()}
        return {n: torch.tensor(v, dtype=torch.float64, device=genes.device) for n, v in found.items()}

    def notes(self) -> list[str]:
        """Say what sub-networks were cut out of, and what the scores then mean."""
        if self._parent is None:
            return []
        return [
            "probe: sub-networks were cut out of the parent fine-tuned on the training images, which it knows by heart: scores "
            "compare networks, and flatter all of them"
        ]

    def state_dict(self) -> dict[str, Any]:
        """Scores so far, and what they depend on."""
        known = {"losses": self._losses, "accuracies": self._accuracies}
        return {**super().state_dict(), **known, "images": self._digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved.

        Raises:
            ValueError: if it was saved with other images.
        """
        if state["images"] != self._digest:
            raise ValueError("the saved scores are of other images; resume with the same or start a new run")
        super().load_state_dict(state)
        self._losses, self._accuracies = dict(state["losses"]), dict(state["accuracies"])


def check_normalisation(space: InheritingSpace, data: pl.LightningDataModule) -> None:
    """Refuse images that are normalised in another way than the parent's were.

    Data modules that don't say how they normalise (``normalisation``) pass.

    Raises:
        ValueError: in that case, with the options to give.
    """
    told = getattr(data, "normalisation", None)
    if not told:
        return
    for name, values in space.normalisation.items():
        wanted = values if len(told[name]) == len(values) else [sum(values) / len(values)] * len(told[name])
        if any(abs(a - b) > 0.02 for a, b in zip(told[name], wanted, strict=True)):
            listed = "; ".join(
                f"--data.{key} {[round(v, 4) for v in space.normalisation[key]]}" for key in ("mean", "std")
            )
            raise ValueError(
                f"images must be normalised as those that the weights of {space.name} were trained on: {listed}; got "
                f"{name} {[round(value, 4) for value in told[name]]}"
            )
