"""The interface of a search space: everything a sampler, a fitness or a report may ask of one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from ednag.population import Noise


class SearchSpace(ABC):
    """A finite set of architectures, written as ``L`` integer genes.

    A subclass sets :attr:`name` and :attr:`cardinalities` and implements :meth:`identity`, :meth:`describe`,
    :meth:`parse` and :meth:`build`. See :mod:`ednag.population` for the legend of shapes.
    """

    name: str
    """Short name, as in reports (``nasbench201``)."""

    cardinalities: tuple[int, ...]
    """Number of choices of each gene."""

    @property
    def num_genes(self) -> int:
        """``L``."""
        return len(self.cardinalities)

    @property
    def size(self) -> int:
        """Number of gene strings, isomorphic ones counted separately."""
        return math.prod(self.cardinalities)

    @property
    def noise_dim(self) -> int:
        """``D``, the width of the continuous relaxation."""
        return sum(self.cardinalities)

    def encode(self, genes: Tensor) -> Tensor:
        """Write genes as concatenated one-hot vectors.

        Args:
            genes: int64 ``(*B, L)``.

        Returns:
            float32 ``(*B, D)`` of zeros and ones.
        """
        starts = torch.tensor((0, *self.cardinalities[:-1]), device=genes.device).cumsum(0)
        out = torch.zeros((*genes.shape[:-1], sum(self.cardinalities)), device=genes.device)
        return out.scatter(-1, genes + starts, 1.0)

    def decode(self, x: Tensor) -> Tensor:
        """Read genes off continuous values: the arg-max over the choices of each gene.

        Args:
            x: ``(*B, D)``.

        Returns:
            int64 ``(*B, L)``.
        """
        return torch.stack([block.argmax(-1) for block in x.split(self.cardinalities, -1)], -1)

    def valid(self, genes: Tensor) -> Tensor:
        """Tell which genes describe an architecture of this space (here: every gene in range).

        Args:
            genes: int64 ``(*B, L)``.

        Returns:
            bool ``(*B,)``.
        """
        high = torch.tensor(self.cardinalities, device=genes.device)
        return ((genes >= 0) & (genes < high)).all(-1)

    def random(self, noise: Noise, n: int) -> Tensor:
        """Draw ``n`` architectures a run, each gene uniform and independent.

        Returns:
            int64 ``(R, n, L)``.
        """
        high = torch.tensor(self.cardinalities, device=noise.device)
        return noise.integers(high, n, self.num_genes)

    def check(self, genes: Tensor) -> Tensor:
        """Return ``genes`` if all are of this space.

        Raises:
            ValueError: if the last dimension is not ``L`` or a gene is out of range, naming the first one.
        """
        if genes.shape[-1] != self.num_genes:
            raise ValueError(f"{self.name} has {self.num_genes} genes an architecture, got {genes.shape[-1]}")
        high = torch.tensor(self.cardinalities, device=genes.device)
        wrong = (genes < 0) | (genes >= high)
        if wrong.any():
            place = int(wrong.nonzero()[0][-1])
            raise ValueError(
                f"gene {place} of {self.name} must be in 0..{self.cardinalities[place] - 1}, "
                f"got {int(genes[wrong][0])}"
            )
        return genes

    @abstractmethod
    def identity(self, genes: Tensor) -> Tensor:
        """Return a number that two architectures share exactly if they compute the same function class.

        Args:
            genes: int64 ``(*B, L)``, in range.

        Returns:
            int64 ``(*B,)``, non-negative.
        """

    @abstractmethod
    def describe(self, genes: Tensor) -> str:
        """Write one architecture, int64 ``(L,)``, in the field's own text format."""

    @abstractmethod
    def parse(self, text: str) -> Tensor:
        """Read the text written by :meth:`describe`.

        Returns:
            int64 ``(L,)``.

        Raises:
            ValueError: if the text is not an architecture of this space.
        """

    @abstractmethod
    def build(self, genes: Tensor, num_classes: int, **options: Any) -> nn.Module:
        """Build the trainable network of one architecture, int64 ``(L,)``.

        Every space accepts ``in_channels`` (default 3) and maps ``(batch, in_channels, height, width)`` images to
        ``(batch, num_classes)`` logits, for any image size that its strides allow.
        """
