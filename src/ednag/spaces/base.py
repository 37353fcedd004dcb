"""The interface of a search space: what samplers, fitnesses and reports need from it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from ednag.core.names import unknown
from ednag.core.noise import Noise
from ednag.spaces.tally import ImageShape


def quoted(text: str) -> str:
    """Quote a text in an error message, its first 200 characters at most."""
    return repr(text if len(text) <= 200 else f"{text[:200]}...")


def genes_of(codes: Tensor, cardinalities: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Undo :meth:`SearchSpace.code`.

    Args:
        codes: non-negative int64 ``(*B,)``.
        cardinalities: number of choices of each gene.

    Returns:
        genes, int64 ``(*B, L)``, and what is left of each code, ``(*B,)``: 0 if it is a code of these genes.
    """
    digits = []
    for cardinality in reversed(cardinalities):
        digits.append(codes % cardinality)
        codes = codes // cardinality
    return torch.stack(digits[::-1], -1), codes


@cache
def place_values(cardinalities: tuple[int, ...]) -> tuple[int, ...]:
    """Weight of each gene in :meth:`SearchSpace.code`: the product of all later cardinalities, as a 64-bit integer."""
    products = accumulate(reversed(cardinalities[1:]), lambda a, b: a * b, initial=1)
    return tuple((value + 2**63) % 2**64 - 2**63 for value in reversed(list(products)))


@lru_cache(maxsize=256)
def _numbers(values: tuple[int, ...], device: torch.device | str) -> Tensor:
    return torch.tensor(values, device=device)


def choices(cardinalities: Sequence[int], device: torch.device | str) -> Tensor:
    """Number of choices of each gene, int64 ``(L,)``, always the same tensor; it must not be written to."""
    return _numbers(tuple(cardinalities), device)


@dataclass(frozen=True)
class Layout:
    """Maps each choice of each gene to a place in a vector of continuous genes.

    Attributes:
        dim: ``D``, the length of the vector.
        positions: for each gene, the place of each of its choices, in ``0 .. dim - 1``; places that no choice claims
            are noise that decoding ignores.

    Examples:
        >>> layout = Layout.compact((2, 3))
        >>> layout.encode(torch.tensor([1, 2]))
        tensor([0., 1., 0., 0., 1.])
        >>> layout.decode(torch.tensor([0.3, 0.1, 0.2, 0.9, 0.4]))
        tensor([0, 1])
    """

    dim: int
    positions: tuple[tuple[int, ...], ...]

    @classmethod
    def compact(cls, cardinalities: tuple[int, ...]) -> Layout:
        """Put the choices of all genes one after the other, without gaps."""
        ends = list(accumulate(cardinalities))
        return cls(ends[-1], tuple(tuple(range(end - k, end)) for end, k in zip(ends, cardinalities, strict=True)))

    def encode(self, genes: Tensor) -> Tensor:
        """Encode genes as one-hot blocks.

        Args:
            genes: int64 ``(*B, L)``, in range.

        Returns:
            float32 ``(*B, D)`` of zeros and ones.
        """
        width = max(map(len, self.positions))
        padded = [[*places, *places[:1] * (width - len(places))] for places in self.positions]
        table = torch.tensor(padded, device=genes.device)
        places = table.expand(*genes.shape, -1).gather(-1, genes[..., None]).squeeze(-1)
        return torch.zeros((*genes.shape[:-1], self.dim), device=genes.device).scatter(-1, places, 1.0)

    def decode(self, x: Tensor) -> Tensor:
        """Decode continuous values: the arg-max over the choices of each gene.

        Args:
            x: ``(*B, D)``.

        Returns:
            int64 ``(*B, L)``.
        """
        if len(set(map(len, self.positions))) == 1:
            return x[..., torch.tensor(self.positions, device=x.device)].argmax(-1)
        return torch.stack([x[..., list(places)].argmax(-1) for places in self.positions], -1)


def gene_strings(cardinalities: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """List every string of genes in the order of codes, int64 ``(prod(cardinalities), L)``."""
    return torch.cartesian_prod(*(torch.arange(n, device=device) for n in cardinalities)).view(-1, len(cardinalities))


class SearchSpace(ABC):
    """A finite set of architectures, written as ``L`` integer genes.

    A subclass sets :attr:`name` and :attr:`cardinalities` and implements :meth:`identity`, :meth:`describe`,
    :meth:`parse` and :meth:`build`. See :mod:`ednag.core.archive` for the legend of shapes.

    Examples:
        >>> from ednag.core.noise import Noise
        >>> from ednag.spaces import NASBench201
        >>> space = NASBench201()
        >>> genes = space.random(Noise([0]), 4)  # one run, four architectures
        >>> genes.shape
        torch.Size([1, 4, 6])
        >>> architecture = space.describe(genes[0, 0])
        >>> space.parse(architecture).equal(genes[0, 0])
        True
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
    def layout(self) -> Layout:
        """The compact layout, ``D = sum(cardinalities)``."""
        return Layout.compact(self.cardinalities)

    @property
    def published_layout(self) -> Layout:
        """The layout in the EDNAG paper, or the compact one if the paper has none."""
        return self.layout

    def code(self, genes: Tensor) -> Tensor:
        """Return a number for each gene string: unique if ``size < 2**63``, otherwise a hash.

        Args:
            genes: int64 ``(*B, L)``, in range.

        Returns:
            int64 ``(*B,)``, non-negative; the first gene is the most significant digit.
        """
        weights = _numbers(place_values(tuple(self.cardinalities)), genes.device)
        return (genes * weights).sum(-1) & (2**63 - 1)

    def valid(self, genes: Tensor) -> Tensor:
        """Mark genes that are an architecture of this space (by default: every gene in range).

        Args:
            genes: int64 ``(*B, L)``.

        Returns:
            bool ``(*B,)``.
        """
        high = choices(self.cardinalities, genes.device)
        return ((genes >= 0) & (genes < high)).all(-1)

    def random(self, noise: Noise, n: int) -> Tensor:
        """Draw ``n`` architectures per run, each gene uniform and independent.

        Returns:
            int64 ``(R, n, L)``.
        """
        high = choices(self.cardinalities, noise.device)
        return noise.integers(high, n, self.num_genes)

    def check(self, genes: Tensor) -> Tensor:
        """Return ``genes`` if all of them belong to this space.

        Raises:
            ValueError: if the last dimension is not ``L`` or a gene is out of range, naming the first one.
        """
        if genes.shape[-1] != self.num_genes:
            raise ValueError(f"{self.name} has {self.num_genes} genes per architecture, got {genes.shape[-1]}")
        high = torch.tensor(self.cardinalities, device=genes.device)
        wrong = (genes < 0) | (genes >= high)
        if wrong.any():
            place = int(wrong.nonzero()[0][-1])
            raise ValueError(
                f"gene {place} of {self.name} must be in 0..{self.cardinalities[place] - 1}, got {int(genes[wrong][0])}"
            )
        return genes

    def features(self, genes: Tensor) -> Tensor:
        """Return features beyond the genes, for models of fitness; none by default.

        Args:
            genes: int64 ``(*B, L)``, in range.

        Returns:
            small integers, float32 ``(*B, F)``, of which squared Euclidean distance means dissimilarity; ``F`` is fixed
            for a space, 0 here.
        """
        return torch.zeros((*genes.shape[:-1], 0), device=genes.device)

    def layers(self, genes: Tensor) -> Tensor:
        """Count the layers of each kind in a network, for models of its latency, which is nearly a sum over layers.

        By default, how many genes have each value, genes with the same number of choices taken together, value 0 left out.
        A space whose genes mean different things counts what its networks consist of.

        Args:
            genes: int64 ``(*B, L)``, in range.

        Returns:
            float32 ``(*B, K)``; ``K`` is fixed for a space.
        """
        counts = []
        for number in sorted(set(self.cardinalities)):
            alike = genes[..., [i for i, n in enumerate(self.cardinalities) if n == number]]
            counts += [(alike == value).sum(-1) for value in range(1, number)]
        return torch.stack(counts, -1).float() if counts else torch.zeros((*genes.shape[:-1], 0), device=genes.device)

    def seeds(self) -> Tensor:
        """Architectures that are worth a look before any other, int64 ``(n, L)``; none by default."""
        return torch.zeros(0, self.num_genes, dtype=torch.int64)

    def count(self, genes: Tensor, num_classes: int, image_shape: ImageShape = (3, 32, 32)) -> Tensor | None:
        """Count parameters and multiply-accumulates of networks without building them.

        A space that has further options of :meth:`build` has the same ones here. Callers ask
        :func:`ednag.spaces.building.count_in_closed_form`, which knows whether a subclass builds other networks than are
        counted here.

        Args:
            genes: valid architectures, int64 ``(*B, L)``.
            num_classes: number of logits.
            image_shape: channels, height and width of the images.

        Returns:
            int64 ``(*B, 2)``, equal to :func:`ednag.costs.count_costs` of the built networks; ``None`` if there is no
            closed form, as here: networks are built then.
        """
        return None

    def edges(self, genes: Tensor) -> dict[str, list[tuple[str, str, str]]]:
        """Describe the graphs of one architecture for a drawing; none by default.

        Args:
            genes: int64 ``(L,)``.

        Returns:
            ``(source, target, label)`` of the edges of each cell, by the cell's title.
        """
        return {}

    @abstractmethod
    def identity(self, genes: Tensor) -> Tensor:
        """Return an integer that is equal exactly for isomorphic architectures.

        Args:
            genes: int64 ``(*B, L)``, in range.

        Returns:
            int64 ``(*B,)``, non-negative.
        """

    @abstractmethod
    def describe(self, genes: Tensor) -> str:
        """Return one architecture, int64 ``(L,)``, in the text format of its benchmark."""

    @abstractmethod
    def parse(self, text: str) -> Tensor:
        """Read the text written by :meth:`describe`.

        Returns:
            int64 ``(L,)``.

        Raises:
            ValueError: if the text is not an architecture of this space.
        """

    @abstractmethod
    def build(self, genes: Tensor, num_classes: int, in_channels: int = 3) -> nn.Module:
        """Build the trainable network of one architecture.

        A space may have further options (width, depth, strides), each with a default.

        Args:
            genes: int64 ``(L,)``.
            num_classes: number of logits.
            in_channels: channels of the images.

        Returns:
            a network from ``(batch, in_channels, height, width)`` to ``(batch, num_classes)`` logits, for any image
            size that its strides allow.
        """


def find_space(name: str) -> SearchSpace:
    """Create a search space by its short name, with default settings.

    Raises:
        ValueError: if there is none of that name.
    """
    found: dict[str, Callable[[], SearchSpace]] = {}
    waiting: list[Any] = [SearchSpace]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if isinstance(getattr(kind, "name", None), str):
            own = kind.__module__.startswith("ednag.")  # a user's space can't take the name of one of these
            found[kind.name] = kind if own else found.get(kind.name, kind)
    if name not in found:
        raise ValueError(unknown("search space", name, sorted(found)))
    return found[name]()
