"""Linear discriminant analysis with shrinkage: the head that needs no training, and what it is worth."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Head(NamedTuple):
    """A linear classifier of features.

    Attributes:
        weight: ``(K, F)``.
        bias: ``(K,)``.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Logits ``(n, K)`` of features ``(n, F)``."""
        return features @ self.weight.T + self.bias


def fit_discriminant(features: Tensor, labels: Tensor, num_classes: int, shrinkage: float = 0.3) -> Head:
    """Fit linear discriminant analysis (Fisher 1936) with a shrunk covariance (Friedman 1989).

    ``S = (1 - s) W + s tr(W) / F I`` with ``W`` the pooled covariance within classes; logits are
    ``m_k S^-1 x - m_k S^-1 m_k / 2``, every class equally likely. A class without an image gets a bias of ``-inf``.

    Args:
        features: ``(n, F)``.
        labels: int64 ``(n,)``.
        num_classes: ``K``.
        shrinkage: ``s``, in (0, 1].

    Raises:
        ValueError: if the shrinkage is out of range.
    """
    if not 0 < shrinkage <= 1:
        raise ValueError(f"shrinkage must be in (0, 1], got {shrinkage}")
    x = features.double()
    centre = x.mean(0)
    x = x - centre
    counts = labels.bincount(minlength=num_classes).double()
    means = torch.zeros(num_classes, x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, labels, x)
    means /= counts.clamp_min(1)[:, None]
    within = x - means[labels]
    covariance = within.T @ within / len(x)
    level = covariance.diagonal().mean().clamp_min(1e-12)
    covariance = (1 - shrinkage) * covariance
    covariance.diagonal().add_(shrinkage * level)
    weight = torch.cholesky_solve(means.T, torch.linalg.cholesky(covariance)).T
    bias = -(weight * means).sum(1) / 2 - weight @ centre
    bias = bias.masked_fill(counts == 0, -torch.inf)
    return Head(weight.to(features.dtype), bias.to(features.dtype))


def cross_validated(
    features: Tensor, labels: Tensor, num_classes: int, shrinkage: float = 0.3, folds: int = 2, seed: int = 0
) -> Tensor:
    """Logits of each image by a head that was fitted without it, ``(n, K)``.

    Folds have their share of every class.

    Args:
        features: ``(n, F)``.
        labels: int64 ``(n,)``.
        num_classes: ``K``.
        shrinkage: see :func:`fit_discriminant`.
        folds: parts that the images are cut into, 2 or more.
        seed: of the cut.
    """
    fold = stratified_folds(labels, folds, seed)
    logits = torch.empty(len(labels), num_classes, dtype=features.dtype, device=features.device)
    for part in range(folds):
        held = fold == part
        head = fit_discriminant(features[~held], labels[~held], num_classes, shrinkage)
        logits[held] = head(features[held])
    return logits


def best_scale(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Scale logits so that they are as sure as they are right.

    Args:
        logits: of images that they were not fitted to, ``(n, K)``.
        labels: int64 ``(n,)``.

    Returns:
        the factor, of 81 from 0.01 to 100, with the least cross-entropy; and that cross-entropy in nats.
    """
    bounded = logits.clamp_min(-1e4)
    scales = torch.logspace(-2, 2, 81, dtype=logits.dtype)
    losses = torch.stack([F.cross_entropy(scale * bounded, labels) for scale in scales])
    best = int(losses.argmin())
    return float(scales[best]), float(losses[best])


def stratified_folds(labels: Tensor, folds: int, seed: int) -> Tensor:
    """Deal images out to folds, class by class, int64 ``(n,)``."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    order = order[labels[order].argsort(stable=True)]
    fold = torch.empty_like(labels)
    fold[order] = torch.arange(len(labels), device=labels.device) % folds
    return fold
