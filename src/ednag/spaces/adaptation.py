"""Adapt inherited weights to a sub-network, on images and without training, so that it computes what its parent does.

Three means, each measured (``docs/results.md``): the inner channels that are kept are those out of which, one after the
other, least squares make most of what the layer gives; each channel's mean and deviation after batch
normalisation are made those of the parent (which recalibrated statistics are not); and the projection of each layer is
fitted by least squares to the parent's output of that layer, that of a stage's last layer to the output of the stage.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from ednag.spaces.building import build_network
from ednag.spaces.inheritance import InheritingSpace, Parent, descending, reading_norm
from ednag.spaces.inverted_residual import InvertedResidual, InvertedResidualNetwork, Layer
from ednag.spaces.matching import (
    Moments,
    chunked,
    effective,
    few,
    folded,
    forward_selection,
    from_norm,
    match,
    matched,
    moments_of,
    parts,
    projection,
    refit,
    to_norm,
)

Order = Literal["least squares", "activation", "expect"]
"""How inner channels are sorted, see :class:`Adaptation`."""


@dataclass(frozen=True)
class Reference:
    """What the parent computes for the calibration images at one resolution.

    Attributes:
        parent: its weights, inner channels sorted by importance.
        moments: after each batch normalisation, by the place of the layer (-1 for what follows the last stage) and the
            name of the part.
        outputs: of each layer, for the first images, by place.
        places: for each stage from 1, the place of the parent's last layer.
        layers: the parent's.
    """

    parent: Parent
    moments: dict[tuple[int, str], Moments]
    outputs: dict[int, Tensor]
    places: dict[int, int]
    layers: tuple[Layer, ...]


class Adapted(NamedTuple):
    """Activations behind some stage, and the weights of that stage.

    Attributes:
        calibration: of the calibration images, ``(n, channels, h, w)``.
        others: of other images, ``(m, channels, h, w)``.
        state: of the stage's layers, by their index in it; empty behind the stem.
    """

    calibration: Tensor
    others: Tensor
    state: list[dict[str, Tensor]]

    @property
    def bytes(self) -> int:
        """Memory that the activations take."""
        return 4 * (self.calibration.numel() + self.others.numel())


class Adaptation:
    """Gives sub-networks of one parent their weights, adapted on calibration images.

    What sub-networks have in common from their first layer on is adapted once, and its activations are kept.

    Args:
        space: whose networks they are.
        calibration: normalised images ``(n, C, h, w)`` in random order; a few hundred do.
        others: further images, whose features are wanted as well; they have no influence on weights.
        match: give each channel the parent's mean and deviation after batch normalisation.
        ridge: of the least squares, relative to the mean variance of what the projection reads; ``None`` for none.
        order: which inner channels are kept first: the ones that ``least squares`` choose one after the other
            (:func:`~ednag.spaces.matching.forward_selection`); those of the largest root mean square ``activation`` times the
            norm of the weights that read them; or of the largest one that batch normalisation lets ``expect``.
        every_layer: fit the projection of every layer; else that of the last one in each stage alone.
        memory: bytes of activations that are kept.
        network: options that the sub-networks are built with.
        parent: weights to inherit, those of the space's parent if omitted.

    Raises:
        ImportError: if the parent's weights are not installed.
        FileNotFoundError: if they are missing.
    """

    def __init__(
        self,
        space: InheritingSpace,
        calibration: Tensor,
        others: Tensor | None = None,
        match: bool = True,
        ridge: float | None = 0.3,
        order: Order = "least squares",
        every_layer: bool = True,
        memory: int = 2**30,
        network: Mapping[str, Any] | None = None,
        parent: Parent | None = None,
    ) -> None:
        self.space = space
        self.calibration = calibration.contiguous(memory_format=torch.channels_last)
        self.others = (calibration[:0] if others is None else others).contiguous(memory_format=torch.channels_last)
        self.match, self.ridge, self.order, self.every_layer = match, ridge, order, every_layer
        self.memory = memory
        self.network = dict(network or {})
        self._parent = space.parent() if parent is None else parent
        self._references: dict[int | None, Reference] = {}
        self._kept: OrderedDict[tuple[int | None, tuple[Layer, ...]], Adapted] = OrderedDict()

    @torch.no_grad()
    def adapt(self, network: InvertedResidualNetwork) -> Tensor:
        """Give a sub-network its weights, the classifier aside.

        Args:
            network: of the space, on the CPU or wherever the images are; it is in evaluation mode afterwards.

        Returns:
            features of the other images, ``(m, F)``.
        """
        reference = self._reference(network.resolution)
        network.load_state_dict(reference.parent.weights(network), strict=False)
        network.eval().to(memory_format=torch.channels_last)
        first = tuple(layer for layer in network.layers if layer.stage == 0)
        done = self._kept.get((network.resolution, first)) or self._stem(network)
        for number, stage in enumerate(network.stages()):
            layers = tuple(layer for layer in network.layers if layer.stage <= number)
            done = self._stage(network.resolution, layers, stage, done, reference)
        if network.layers != reference.layers and self.match:
            self._tail(network, done.calibration, reference)
        return chunked(network.tail, done.others)

    def _stem(self, network: InvertedResidualNetwork) -> Adapted:
        """Pass images through the first convolution; its large maps are not kept."""

        def stem(x: Tensor) -> Tensor:
            out: Tensor = network.first_conv(network.scale(x))
            return out

        return Adapted(chunked(stem, self.calibration), chunked(stem, self.others), [])

    def _stage(
        self,
        resolution: int | None,
        layers: tuple[Layer, ...],
        stage: list[tuple[Layer, InvertedResidual]],
        before: Adapted,
        reference: Reference,
    ) -> Adapted:
        """Adapt a stage behind those before it, or recall what became of it.

        Args:
            resolution: of the network.
            layers: all up to this stage's last one, which name what was kept.
            stage: its layers.
            before: activations that come in.
            reference: what the parent computes.
        """
        key = (resolution, layers)
        if key in self._kept:
            self._kept.move_to_end(key)
            for (_, block), state in zip(stage, self._kept[key].state, strict=True):
                block.load_state_dict(state)
            return self._kept[key]
        x, others = before.calibration, before.others
        changed = layers != reference.layers[: len(layers)]
        for layer, block in stage:
            if changed and self.match:
                inner = match(block, layer.place, x[: few(x)], reference.moments)
                last = layer == layers[-1]
                if layer.stage and self.ridge is not None and (last or self.every_layer):
                    place = reference.places[layer.stage] if last else layer.place
                    target = reference.outputs[place][: len(inner)]
                    refit(block, inner, target - x[: len(target)] if block.residual else target, self.ridge)
            quick = folded(block)
            x, others = chunked(quick, x), chunked(quick, others)
        states = [{name: value.clone() for name, value in block.state_dict().items()} for _, block in stage]
        self._keep(key, Adapted(x, others, states))
        return self._kept[key]

    def _keep(self, key: tuple[int | None, tuple[Layer, ...]], found: Adapted) -> None:
        """Remember activations; forget the ones that were not used for longest if there are too many."""
        self._kept[key] = found
        while sum(one.bytes for one in self._kept.values()) > self.memory and len(self._kept) > 1:
            self._kept.popitem(last=False)

    def _tail(self, network: InvertedResidualNetwork, x: Tensor, reference: Reference) -> None:
        """Match what follows the last stage, if that is normalised."""
        final = getattr(network, "final_expand_layer", None)
        if isinstance(final, nn.Sequential) and (-1, "final_expand_layer") in reference.moments:
            matched(final, x[: few(x)], reference.moments[-1, "final_expand_layer"])

    def _reference(self, resolution: int | None) -> Reference:
        """Let the parent look at the calibration images, once for each resolution."""
        if resolution not in self._references:
            built = build_network(self.space, self.space.largest, 2, self.calibration.shape[1], self.network)
            network = cast("InvertedResidualNetwork", built.to(self.calibration.device))
            network.resolution = resolution
            network.load_state_dict(self._parent.weights(network), strict=False)
            network.eval().to(memory_format=torch.channels_last)
            parent = self._parent
            if self.order != "expect":
                parent = parent.reordered(self._orders(network))
                network.load_state_dict(parent.weights(network), strict=False)
            self._references[resolution] = self._observe(network, parent)
        return self._references[resolution]

    def _orders(self, network: InvertedResidualNetwork) -> dict[int, Tensor]:
        """Order the inner channels of each layer, the most useful first."""
        x, orders = chunked(network.first_conv, network.scale(self.calibration)), {}
        for layer, block in ((layer, block) for stage in network.stages() for layer, block in stage):
            if layer.stage:
                inner = x[: few(x)]
                for part in parts(block)[:-1]:
                    inner = part(inner)
                if self.order == "least squares":
                    found = forward_selection(effective(block), inner)
                else:
                    state = {f"blocks.{name}": value for name, value in block.state_dict().items()}
                    read = reading_norm(state, "blocks.conv.", projection(block)[1].eps)
                    found = descending(inner.square().mean((0, 2, 3)).sqrt() * read)
                orders[layer.place] = found.cpu()
            x = chunked(block, x)
        return orders

    def _observe(self, network: InvertedResidualNetwork, parent: Parent) -> Reference:
        """Note what the parent computes."""
        x = chunked(network.first_conv, network.scale(self.calibration))
        moments: dict[tuple[int, str], Moments] = {}
        outputs: dict[int, Tensor] = {}
        places: dict[int, int] = {}
        for stage in network.stages():
            for layer, block in stage:
                some = x[: few(x)]
                for name, part in block.conv.named_children():
                    normed = to_norm(part, some)
                    moments[layer.place, name] = moments_of(normed)
                    some = from_norm(part, normed)
                kept = few(x)
                x = chunked(block, x)
                outputs[layer.place] = x[:kept].clone()
            places[stage[-1][0].stage] = stage[-1][0].place
        final = getattr(network, "final_expand_layer", None)
        if isinstance(final, nn.Sequential):
            moments[-1, "final_expand_layer"] = moments_of(to_norm(final, x[: few(x)]))
        return Reference(parent, moments, outputs, places, network.layers)
