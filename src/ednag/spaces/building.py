"""Build the network of an architecture, with the same weights whatever was built before."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ednag.spaces import SearchSpace
from ednag.spaces.base import genes_of
from ednag.spaces.tally import ImageShape


def check_options(space: SearchSpace, options: Mapping[str, int]) -> dict[str, int]:
    """Return the options if the space's networks know all of them.

    Args:
        space: whose :meth:`SearchSpace.build` gets the options.
        options: by name, e.g. ``{"channels": 16, "cells": 1}``.

    Raises:
        ValueError: for an option that the space doesn't know, naming those it knows, or a size out of range.
    """
    check_sizes(space, options)
    fixed = {"genes", "num_classes", "in_channels"}
    parameters = inspect.signature(space.build).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.name not in fixed]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(options)
    for name in options:
        if name not in known:
            raise ValueError(
                f"networks of {space.name} have no option {name!r}; they have {', '.join(known) or 'none at all'}"
            )
    return dict(options)


def check_sizes(space: SearchSpace, options: Mapping[str, object]) -> None:
    """Refuse sizes of networks, such as channels and cells, that nothing could be built of.

    Raises:
        ValueError: for an option with a positive whole default that is none of 1 to :data:`LARGEST`.
    """
    parameters = inspect.signature(space.build).parameters
    for name, value in options.items():
        default = parameters[name].default if name in parameters else None
        if type(default) is int and default > 0 and not (type(value) is int and 1 <= value <= LARGEST):
            raise ValueError(f"network option {name} must be a whole number from 1 to {LARGEST:,}, got {value!r}")


LARGEST = 4096
"""Most channels, cells and the like."""


def build_network(
    space: SearchSpace, genes: Tensor, num_classes: int, in_channels: int, options: Mapping[str, int], seed: int = 0
) -> nn.Module:
    """Build a network on the CPU; its initial weights depend on the seed alone.

    Args:
        space: what the genes mean.
        genes: int64 ``(L,)``.
        num_classes: number of logits.
        in_channels: channels of the images.
        options: further arguments of the space's ``build``.
        seed: of the initialisation; the global random state stays as it is.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return space.build(genes, num_classes, in_channels=in_channels, **options)


def count_in_closed_form(
    space: SearchSpace, genes: Tensor, num_classes: int, image_shape: ImageShape, options: Mapping[str, Any]
) -> Tensor | None:
    """Count parameters and multiply-accumulates of networks without building them, where the space knows how.

    A subclass that builds networks of its own, or the encoder in them, and counts as its parent does, is not believed.

    Args:
        space: what the genes mean.
        genes: valid architectures, int64 ``(*B, L)``.
        num_classes: number of logits.
        image_shape: channels, height and width of the images.
        options: further arguments of the space's ``build``.

    Returns:
        int64 ``(*B, 2)``, or ``None`` if networks must be built; see :meth:`SearchSpace.count`.
    """
    kinds = type(space).__mro__
    counting, *building = (
        next((i for i, kind in enumerate(kinds) if name in vars(kind)), len(kinds))
        for name in ("count", "build", "encoder")
    )
    if counting > min(building):
        return None
    return space.count(genes, num_classes, image_shape, **options)


def architecture_seed(seed: int, identity: int) -> int:
    """Mix a seed and an architecture's identity into the seed of its initialisation, in ``0 .. 2**63 - 1``."""
    digest = hashlib.sha256(f"{seed}/{identity}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def representative(space: SearchSpace, genes: Tensor) -> Tensor:
    """Replace each architecture by one fixed member of its isomorphism class, if its identity is the code of one.

    Isomorphic architectures share one score, so it must not depend on which of them is asked for first. Where the
    identity is itself the code of a class member (as in NAS-Bench-201), that member stands for the class; elsewhere
    architectures stand for themselves.

    Args:
        space: what the genes mean.
        genes: int64 ``(n, L)``, in range.

    Returns:
        int64 ``(n, L)``.
    """
    identity = space.identity(genes)
    named, rest = genes_of(identity, space.cardinalities)
    fits = (rest == 0) & space.valid(named)
    fits[fits.clone()] = space.identity(named[fits]) == identity[fits]
    return torch.where(fits[:, None], named, genes)
