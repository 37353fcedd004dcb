"""How far an architecture says something of another: a stationary kernel in one-hot genes and in the space's features.

With ``h`` for one-hot genes and ``F`` for the optional features of the space (:meth:`ednag.spaces.SearchSpace.features`),

    k(x, x') = exp(-a w_h |h(x) - h(x')|^2 - b w_F |F(x) - F(x')|^2),

where ``w`` is such that two random architectures are ``gene_scale`` and ``feature_scale`` apart on average: the scales mean
the same in any space. The factors ``a`` and ``b`` are one run's choice (:mod:`ednag.samplers.evidence`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ednag.samplers.calibration import random_valid
from ednag.spaces import SearchSpace
from ednag.spaces.base import gene_strings


class Kernel:
    """A family of kernels; see the module.

    Exponents are sums of multiples of 2^-20, exact in float32 in any order, as long as factors are 0 or powers of two: so a
    kernel does not depend on how runs are batched.

    Args:
        gene_scale: mean exponent of the gene part between two random architectures, >= 0.
        feature_scale: the same for the features of the space, >= 0.
        features: whether to use the features of the space.

    Examples:
        >>> from ednag.spaces import NASBench201
        >>> kernel, space = Kernel(), NASBench201()
        >>> x = kernel.embed(space, torch.tensor([[[0] * 6, [3] * 6]]))
        >>> kernel.between(space, x, x, torch.ones(1, 2, dtype=torch.bool)).diagonal(dim1=1, dim2=2)
        tensor([[1., 1.]], dtype=torch.float64)
    """

    def __init__(self, gene_scale: float = 0.25, feature_scale: float = 0.21, features: bool = True) -> None:
        if gene_scale < 0 or feature_scale < 0:
            raise ValueError(f"need gene_scale, feature_scale >= 0, got {gene_scale} and {feature_scale}")
        self.gene_scale, self.feature_scale, self.features = gene_scale, feature_scale, features
        self._weights: tuple[SearchSpace, Tensor] | None = None
        self._table: tuple[SearchSpace, Tensor] | None = None

    def encode(self, space: SearchSpace, genes: Tensor) -> Tensor:
        """Write genes, int64 ``(*B, L)``, as one-hot genes and features: integers, float32 ``(*B, H + F)``.

        ``H`` is ``L max C``, and ``F`` the number of features, 0 if the space has none.
        """
        values = torch.arange(max(space.cardinalities), device=genes.device)
        hot = (genes[..., None] == values).flatten(-2).float()
        return torch.cat([hot, space.features(genes).float()], -1) if self.features else hot

    def embed(self, space: SearchSpace, genes: Tensor) -> Tensor:
        """Write genes, int64 ``(*B, L)``, as the kernel's left-hand side, float32 ``(*B, H + F + 3)``.

        That is, as in :meth:`encode`, followed by 1 and by minus the squared norms of both parts in the metric of the kernel,
        so that one product with :meth:`facing` gives squared distances. Looked up in a table in spaces of up to
        :data:`TABULATED` gene strings.
        """
        if space.size > TABULATED:
            return self._embed(space, genes)
        if self._table is None or self._table[0] is not space or self._table[1].device != genes.device:
            self._table = (space, self._embed(space, gene_strings(space.cardinalities, genes.device)))
        table, code = self._table[1], space.code(genes)
        return table.index_select(0, code.flatten()).view(*code.shape, -1)

    def _embed(self, space: SearchSpace, genes: Tensor) -> Tensor:
        x, hot = self.encode(space, genes), hot_genes(space)
        squares = x * self.weights(space).to(x.device) * x
        norms = [-part.sum(-1, keepdim=True) for part in (squares[..., :hot], squares[..., hot:])]
        return torch.cat([x, torch.ones_like(norms[0]), *norms], -1)

    def has_features(self, space: SearchSpace) -> bool:
        """Whether the kernel has a feature part in this space."""
        return self.features and len(self.weights(space)) > hot_genes(space)

    def facing(self, space: SearchSpace, b: Tensor, member: Tensor, factors: Tensor | None = None) -> Tensor:
        """Turn a left-hand side of the kernel, see :meth:`embed`, into a right-hand side, ``(R, M, H + F + 3)``.

        Args:
            space: what the genes mean.
            b: ``(R, M, H + F + 3)``.
            member: bool ``(R, M)``; what is no member is far from everything.
            factors: of each run on both parts of the exponent, 0 or powers of two >= 1, ``(R, 2)``; 1 if omitted.
        """
        weights, hot = self.weights(space).to(b.device), hot_genes(space)
        factors = torch.ones(len(b), 2, device=b.device) if factors is None else factors.to(b)
        parts = torch.tensor([hot, len(weights) - hot], device=b.device)
        scaled = 2 * weights * factors.repeat_interleave(parts, -1)
        norm = (b[..., -2:] @ factors[..., None]).where(member[..., None], -FAR)
        return torch.cat([b[..., :-3] * scaled[:, None], norm, factors[:, None].expand(-1, b.shape[1], -1)], -1)

    def exponents(self, space: SearchSpace, a: Tensor, b: Tensor, member: Tensor) -> Tensor:
        """Both parts of the exponent at factors of 1, float64 ``(2, R, N, M)``; arguments as for :meth:`between`."""
        alone = torch.eye(2, device=a.device)
        parts = [self.facing(space, b, member, one.expand(len(b), 2)) for one in alone]
        return torch.stack([(a @ part.mT).double() for part in parts])

    def between(
        self, space: SearchSpace, a: Tensor, b: Tensor, member: Tensor, factors: Tensor | None = None
    ) -> Tensor:
        """Kernel between two sets of architectures, below 1e-26 where the second is not a member.

        Args:
            space: what the genes mean.
            a: see :meth:`embed`, ``(R, N, H + F + 3)``.
            b: ``(R, M, H + F + 3)``.
            member: bool ``(R, M)``.
            factors: see :meth:`facing`, ``(R, 2)``.

        Returns:
            float64 ``(R, N, M)``, in ``[0, 1]``.
        """
        return covariance(a, self.facing(space, b, member, factors))

    def weights(self, space: SearchSpace) -> Tensor:
        """``w`` of each column of :meth:`encode`, float32 ``(H + F,)``, multiples of 2^-20.

        They come from the mean squared distances of 1,024 random valid architectures, always the same.
        """
        if self._weights is None or self._weights[0] is not space:
            spread = 2 * self.encode(space, random_valid(space)).double().var(0, correction=0)
            hot = hot_genes(space)
            scales = (self.gene_scale, self.feature_scale)
            parts = [
                torch.full_like(part, scale / max(float(part.sum()), 1e-6))
                for part, scale in zip((spread[:hot], spread[hot:]), scales, strict=True)
            ]
            self._weights = (space, ((torch.cat(parts) * 2**20).round() / 2**20).float())
        return self._weights[1]


def covariance(asked: Tensor, facing: Tensor) -> Tensor:
    """Kernel of a left-hand and a right-hand side, see :meth:`Kernel.embed` and :meth:`Kernel.facing`, ``(R, N, M)``."""
    return (asked @ facing.mT).double().exp_()


def hot_genes(space: SearchSpace) -> int:
    """Count the columns of one-hot genes."""
    return space.num_genes * max(space.cardinalities)


FAR = 64.0
"""Exponent between anything and what is no member."""

TABULATED = 2**14
"""Spaces of up to this many gene strings are embedded by looking up."""
