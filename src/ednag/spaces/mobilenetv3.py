"""The sub-networks of once-for-all MobileNetV3 (Cai et al. 2020): elastic depth, kernel and expansion."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ednag.core.noise import Noise
from ednag.spaces.base import Layout, quoted
from ednag.spaces.inheritance import InheritingSpace, Parent
from ednag.spaces.inverted_residual import Layer
from ednag.spaces.mobilenetv3_network import (
    LAYERS_PER_STAGE,
    STAGE_CHANNELS,
    WIDTHS,
    MobileNetV3Network,
    check_build,
    count_parts,
    plan_layers,
)
from ednag.spaces.supernet import Supernet
from ednag.spaces.tally import ImageShape

KERNELS, EXPANSIONS, DEPTHS = (3, 5, 7), (3, 4, 6), (2, 3, 4)
"""Choices of a layer's kernel and expansion, and of a stage's depth; a gene is an index into its tuple."""

STAGES = len(STAGE_CHANNELS)
PLACES = STAGES * LAYERS_PER_STAGE

_PAIRS = len(KERNELS) * len(EXPANSIONS)
_FIRST = tuple(sum(_PAIRS**shallower for shallower in DEPTHS[:k]) for k in range(len(DEPTHS) + 1))
"""Where the numbers of a stage's architectures begin at each depth, and how many there are: 0, 81, 810, 7371."""

_FORM = "ks=35,357,3333,77,5757 e=36,346,6666,33,4646 d=2,3,4,2,4"


@dataclass(frozen=True)
class SlotLayout(Layout):
    """The layout of the EDNAG paper, ``D`` = 22 x 12: rows input, the 20 layers of the supernet, output.

    Columns are the nine pairs of kernel and expansion, none, the input and the output symbol. A row is a layer's largest
    entry: the first two of a stage are one of the pairs, the third and the fourth are none or one of the pairs, and none
    as the third ends the stage. Other entries are noise that decoding ignores, so that any values are an architecture.

    A layer that is none has no kernel and no expansion: :meth:`decode` undoes :meth:`encode` up to inert genes.
    """

    dim: int = (PLACES + 2) * (_PAIRS + 3)
    positions: tuple[tuple[int, ...], ...] = ()

    def encode(self, genes: Tensor) -> Tensor:
        """Write genes, int64 ``(*B, 45)``, with one 1 per row, float32 ``(*B, 264)``; see :meth:`Layout.encode`."""
        rows = F.pad(_pairs(genes).where(_exists(genes), _PAIRS), (1, 1), value=_PAIRS + 1)  # between input and output
        rows[..., -1] += 1
        return F.one_hot(rows, _PAIRS + 3).flatten(-2).float()

    def decode(self, x: Tensor) -> Tensor:
        """Read genes, int64 ``(*B, 45)``, off values ``(*B, 264)``; see :meth:`Layout.decode`."""
        rows = x.reshape(*x.shape[:-1], PLACES + 2, _PAIRS + 3)[..., 1:-1, :]
        best, pairs = rows[..., :_PAIRS].max(-1)
        exists = (rows[..., _PAIRS] <= best).reshape(*x.shape[:-1], STAGES, LAYERS_PER_STAGE)
        third, fourth = exists[..., 2].long(), exists[..., 3].long()
        layers = torch.stack([pairs // len(EXPANSIONS), pairs % len(EXPANSIONS)], -1).flatten(-2)
        return torch.cat([third * (1 + fourth), layers], -1)


class MobileNetV3(InheritingSpace):
    """Five stages of 2 to 4 layers, each with a kernel of 3, 5 or 7 and an expansion of 3, 4 or 6.

    Genes: the depth of each stage, then kernel and expansion of each of the 20 layers of the supernet, in turn. Layers
    beyond a stage's depth are inert: they change neither the network nor :meth:`identity`. Every gene string is valid.

    The text lists, for each stage, kernels and expansions of its layers as digits, and its depth::

        ks=35,357,3333,77,5757 e=36,346,6666,33,4646 d=2,3,4,2,4

    :meth:`parse` also reads the once-for-all program's own settings as JSON, ``{"ks": [20 integers], "e": [20 integers],
    "d": [5 integers]}``, where the entries of inert layers are ignored.

    Args:
        width: multiplier of all channels, 1.0 or 1.2, as of the published supernets.
        supernet: checkpoint of a published supernet, for a fitness that looks at inherited weights; see
            :class:`~ednag.spaces.supernet.Supernet`.

    Raises:
        ValueError: for another width.

    Examples:
        >>> space = MobileNetV3()
        >>> genes = space.parse("ks=33,33,33,33,33 e=33,33,33,33,33 d=2,2,2,2,2")
        >>> space.settings(genes)["d"]
        [2, 2, 2, 2, 2]
    """

    name = "mobilenetv3"
    cardinalities = (len(DEPTHS),) * STAGES + (len(KERNELS), len(EXPANSIONS)) * PLACES

    normalisation = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # noqa: RUF012

    def __init__(self, width: float = 1.0, supernet: Path | None = None) -> None:
        if width not in WIDTHS:
            raise ValueError(
                f"width must be {' or '.join(map(str, WIDTHS))}, as of the published supernets, got {width}"
            )
        self.width = float(width)
        self.supernet = None if supernet is None else Path(supernet)

    @property
    def largest(self) -> Tensor:
        """Genes of the whole supernet, int64 ``(45,)``."""
        return torch.tensor(self.cardinalities) - 1

    def parent(self) -> Parent:
        """Read the supernet; see :meth:`InheritingSpace.parent`."""
        if self.supernet is None:
            raise FileNotFoundError(
                "sub-networks of MobileNetV3 inherit the weights of a supernet, and none was given: --space.supernet FILE "
                "(once-for-all's page offers them)"
            )
        return Supernet.load(self.supernet)

    @property
    def architectures(self) -> int:
        """Number of distinct architectures: ``(9^2 + 9^3 + 9^4)^5 = 7371^5``, about 2.2e19."""
        return int(_FIRST[-1] ** STAGES)

    @property
    def published_layout(self) -> Layout:
        """``D`` = 22 x 12, see :class:`SlotLayout`."""
        return SlotLayout()

    def random(self, noise: Noise, n: int) -> Tensor:
        """Draw ``n`` architectures per run, uniformly over distinct architectures; see :meth:`SearchSpace.random`.

        A stage of depth ``d`` has ``9^d`` architectures, so nine in ten stages drawn are of depth 4.
        """
        genes = super().random(noise, n)
        bounds = torch.tensor(_FIRST[1:-1], device=noise.device)
        number = noise.integers(torch.tensor(_FIRST[-1], device=noise.device), n, STAGES)
        genes[..., :STAGES] = torch.bucketize(number, bounds, right=True)
        return genes

    def active(self, genes: Tensor) -> Tensor:
        """Mark the layers that exist, bool ``(*B, 20)``, for genes ``(*B, 45)``."""
        return _exists(genes)

    def canonical(self, genes: Tensor) -> Tensor:
        """Set inert genes to 0, which names each architecture once.

        Args:
            genes: int64 ``(*B, 45)``, in range.

        Returns:
            a tensor of the same shape.
        """
        keep = self.active(genes).repeat_interleave(2, -1)
        return torch.cat([genes[..., :STAGES], genes[..., STAGES:] * keep], -1)

    def identity(self, genes: Tensor) -> Tensor:
        """Number architectures from 0 to 7371^5 - 1, and keep the lowest 63 bits of the number.

        There are 2.36 times as many architectures as such integers, so an identity is shared by at most three, whose
        numbers differ by multiples of 2^63; two different random architectures share one with probability 1e-19.
        """
        pair = _pairs(self.canonical(genes)).reshape(*genes.shape[:-1], STAGES, LAYERS_PER_STAGE)
        powers = _PAIRS ** torch.arange(LAYERS_PER_STAGE, device=genes.device)  # inert pairs are 0
        number = torch.tensor(_FIRST, device=genes.device)[genes[..., :STAGES]] + (pair * powers).sum(-1)
        rank = torch.zeros(genes.shape[:-1], dtype=torch.int64, device=genes.device)
        for stage in number.unbind(-1):
            rank = rank * _FIRST[-1] + stage  # wraps modulo 2^64
        return rank & (2**63 - 1)

    def features(self, genes: Tensor) -> Tensor:
        """Layers that exist, and how large their kernels and expansions are, float32 ``(*B, 100)``.

        Zeros and ones, five for each of the 20 layers: it exists, its kernel is at least 5, at least 7, its expansion
        at least 4, at least 6.
        """
        exists = self.active(genes)[..., None]
        layers = genes[..., STAGES:].reshape(*genes.shape[:-1], PLACES, 2)
        reached = [exists, *(exists & (layers[..., k, None] >= level) for k in (0, 1) for level in (1, 2))]
        return torch.cat(reached, -1).flatten(-2).float()

    def layers(self, genes: Tensor) -> Tensor:
        """Layers, and how many of them have larger kernels and expansions, float32 ``(*B, 5)``; see :meth:`features`."""
        return self.features(genes).reshape(*genes.shape[:-1], PLACES, 5).sum(-2)

    def settings(self, genes: Tensor) -> dict[str, list[int]]:
        """Write one architecture as the once-for-all program does.

        Args:
            genes: int64 ``(45,)``.

        Returns:
            kernels ``ks`` (20) and expansions ``e`` (20), 0 for layers that don't exist, and depths ``d`` (5).
        """
        codes = self.check(genes).tolist()
        depths = [DEPTHS[gene] for gene in codes[:STAGES]]
        kernels, expansions = [0] * PLACES, [0] * PLACES
        for place in range(PLACES):
            if place % LAYERS_PER_STAGE < depths[place // LAYERS_PER_STAGE]:
                kernel, expansion = codes[STAGES + 2 * place : STAGES + 2 * place + 2]
                kernels[place], expansions[place] = KERNELS[kernel], EXPANSIONS[expansion]
        return {"ks": kernels, "e": expansions, "d": depths}

    def from_settings(self, ks: Sequence[int], e: Sequence[int], d: Sequence[int]) -> Tensor:
        """Read an architecture as the once-for-all program writes it.

        Args:
            ks: kernels of the 20 layers; those of inert layers are ignored.
            e: expansions, likewise.
            d: depths of the five stages.

        Returns:
            genes, int64 ``(45,)``, canonical.

        Raises:
            ValueError: if a list is of the wrong length or has a value that is not allowed, naming its place.
        """
        for label, values, length in (("ks", ks, PLACES), ("e", e, PLACES), ("d", d, STAGES)):
            if len(values) != length:
                raise ValueError(f"{label} must list {length} values, got {len(values)}")
        genes = [_choice("depth of stage", stage, value, DEPTHS) for stage, value in enumerate(d)]
        for place, (kernel, expansion) in enumerate(zip(ks, e, strict=True)):
            exists = place % LAYERS_PER_STAGE < d[place // LAYERS_PER_STAGE]
            genes.append(_choice("kernel of layer", place, kernel, KERNELS) if exists else 0)
            genes.append(_choice("expansion of layer", place, expansion, EXPANSIONS) if exists else 0)
        return torch.tensor(genes)

    def describe(self, genes: Tensor) -> str:
        """Write an architecture as in the description of the class."""
        settings = self.settings(genes)

        def digits(values: list[int]) -> str:
            stages = [values[i : i + LAYERS_PER_STAGE] for i in range(0, PLACES, LAYERS_PER_STAGE)]
            return ",".join("".join(str(value) for value in stage if value) for stage in stages)

        return f"ks={digits(settings['ks'])} e={digits(settings['e'])} d={','.join(map(str, settings['d']))}"

    def parse(self, text: str) -> Tensor:
        """Read either text form; see the description of the class and :meth:`SearchSpace.parse`."""
        if text.lstrip().startswith("{"):
            return self.from_settings(**_read_json(text))
        form = re.fullmatch(r"ks=(\d+(?:,\d+){4}) e=(\d+(?:,\d+){4}) d=(\d(?:,\d){4})", text.strip())
        if not form:
            raise ValueError(
                f"not a once-for-all MobileNetV3: {quoted(text)}. Expected five stages as in {_FORM!r} (kernels {KERNELS}, "
                f"expansions {EXPANSIONS}, depths {DEPTHS}), or JSON with ks, e and d"
            )
        kernels, expansions, depths = (part.split(",") for part in form.groups())
        for stage, depth in enumerate(depths):
            if not int(depth) == len(kernels[stage]) == len(expansions[stage]):
                raise ValueError(
                    f"stage {stage} has depth {depth}, {len(kernels[stage])} kernels and {len(expansions[stage])} "
                    f"expansions in {quoted(text)}; expected one kernel and one expansion per layer"
                )
        ks, e = ([int(v) for stage in part for v in f"{stage:0<4}"[:4]] for part in (kernels, expansions))
        return self.from_settings(ks, e, [int(depth) for depth in depths])

    def edges(self, genes: Tensor) -> dict[str, list[tuple[str, str, str]]]:
        """Stage chart: for each stage a chain of its layers, labelled by kernel and expansion.

        Titles give the channels, and whether the first layer halves the resolution; see :meth:`SearchSpace.edges`.
        """
        settings = self.settings(genes)
        layers = plan_layers(settings["d"], settings["ks"], settings["e"], self.width)[1:]
        chart: dict[str, list[tuple[str, str, str]]] = {}
        for stage in range(STAGES):
            chain = [layer for layer in layers if (layer.place - 1) // LAYERS_PER_STAGE == stage]
            first = chain[0]
            extras = [
                text for text, there in (("half the size", first.stride == 2), ("squeeze", first.squeeze)) if there
            ]
            extras.append("h-swish" if first.activation == "hswish" else "ReLU")
            title = f"stage {stage + 1}: {first.in_channels} to {first.out_channels} channels, {', '.join(extras)}"
            nodes = ["in", *map(str, range(1, len(chain))), "out"]
            labels = [f"{x.kernel}x{x.kernel}, expand {x.expansion}" for x in chain]
            chart[title] = list(zip(nodes[:-1], nodes[1:], labels, strict=True))
        return chart

    def plan(self, genes: Tensor) -> list[Layer]:
        """List layers; see :meth:`InheritingSpace.plan`."""
        settings = self.settings(genes)
        return plan_layers(settings["d"], settings["ks"], settings["e"], self.width)

    def build(
        self,
        genes: Tensor,
        num_classes: int,
        in_channels: int = 3,
        stem_stride: int = 2,
        dropout: float = 0.0,
        resolution: int | None = None,
    ) -> MobileNetV3Network:
        """Build the sub-network, with fresh weights.

        Args:
            genes: one architecture, int64 ``(45,)``.
            num_classes: logits.
            in_channels: channels of the images.
            stem_stride: stride of the first convolution: 2 in the supernet; 1 for small images, whose side is divided by
                16 then, not by 32.
            dropout: probability of dropping a feature before the classifier, in [0, 1).
            resolution: side to which images are scaled first: a multiple of 4 in 128..224, as the supernet was trained
                with; ``None`` to take images as they are.

        Returns:
            a network from ``(batch, in_channels, h, w)`` to ``(batch, num_classes)``.

        Raises:
            ValueError: if genes or an option are out of range.
        """
        check_build(stem_stride, dropout, resolution)
        return MobileNetV3Network(
            self.plan(genes), self.width, num_classes, in_channels, stem_stride, dropout, resolution
        )

    def count(
        self,
        genes: Tensor,
        num_classes: int,
        image_shape: ImageShape = (3, 224, 224),
        stem_stride: int = 2,
        dropout: float = 0.0,
        resolution: int | None = None,
    ) -> Tensor:
        """Count sub-networks layer by layer; see :meth:`SearchSpace.count` and :meth:`build`."""
        check_build(stem_stride, dropout, resolution)
        shape = image_shape if resolution is None else (image_shape[0], resolution, resolution)
        rest, layers = count_parts((KERNELS, EXPANSIONS), self.width, num_classes, tuple(shape), stem_stride)
        place = torch.arange(PLACES, device=genes.device)
        counts = layers.to(genes.device)[place, _pairs(genes)] * self.active(genes).unsqueeze(-1)
        return counts.sum(-2) + rest.to(genes.device)


def _pairs(genes: Tensor) -> Tensor:
    """Number the pair of kernel and expansion of each layer, int64 ``(*B, 20)``, for genes ``(*B, 45)``."""
    return genes[..., STAGES::2] * len(EXPANSIONS) + genes[..., STAGES + 1 :: 2]


def _exists(genes: Tensor) -> Tensor:
    """Mark the layers that exist, see :meth:`MobileNetV3.active`."""
    depth = torch.tensor(DEPTHS, device=genes.device)[genes[..., :STAGES]]
    step = torch.arange(LAYERS_PER_STAGE, device=genes.device)
    return (step < depth[..., None]).flatten(-2)


def _choice(what: str, place: int, value: int, allowed: tuple[int, ...]) -> int:
    """Find a value among those allowed."""
    if value not in allowed:
        raise ValueError(f"the {what} {place} is {value}; allowed: {', '.join(map(str, allowed))}")
    return allowed.index(value)


def _read_json(text: str) -> dict[str, Any]:
    """Read ``ks``, ``e`` and ``d`` as lists of integers; other entries are ignored."""
    try:
        content = json.loads(text)
        lists = {name: [index(value) for value in content[name]] for name in ("ks", "e", "d")}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"expected JSON with lists of integers ks, e and d, got {quoted(text)} ({error})") from None
    return lists
