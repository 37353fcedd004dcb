"""What retrained networks must be held against: the parent, a plain network trained from scratch, and random members."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ednag.core.noise import Noise
from ednag.costs.counting import Costs, count_costs
from ednag.data.describe import ImageTask
from ednag.generation.report import Candidate
from ednag.retraining.module import Recipe
from ednag.retraining.results import Result
from ednag.spaces import SearchSpace, TransNAS101Macro
from ednag.spaces.building import build_network, count_in_closed_form
from ednag.spaces.inheritance import InheritingSpace

log = logging.getLogger(__name__)

RESNET = "64-1444-basic"
"""ResNet-18 (He et al. 2016) as a macro skeleton of TransNAS-Bench-101, whose width is an option."""

FROM_SCRATCH = 5
"""A network that inherits nothing is trained for this many times the epochs of fine-tuning."""

MEMBERS = 2
"""Random members of the space."""


@dataclass(frozen=True)
class Baseline:
    """A network to train beside those that were generated.

    Attributes:
        name: of its folder and its row.
        space: which builds it.
        candidate: the architecture.
        recipe: how to train it.
        network: options of the space's ``build``.
    """

    name: str
    space: SearchSpace
    candidate: Candidate
    recipe: Recipe
    network: Mapping[str, Any]


def plan_baselines(
    space: SearchSpace, picked: Tensor, task: ImageTask, recipe: Recipe, network: Mapping[str, Any], seed: int
) -> list[Baseline]:
    """Say what to train beside a generated architecture.

    The parent's linear probe and the parent fine-tuned, where networks inherit weights; a thin ResNet-18 of at most the
    architecture's multiply-accumulates, from scratch; and random members of the space that cost 70 to 100 % of them.

    Args:
        space: the architecture's.
        picked: its genes, int64 ``(L,)``.
        task: the images.
        recipe: of the generated networks.
        network: options of the space's ``build``.
        seed: of the random members.
    """
    limit = _count(space, picked, task, network).macs
    plans = []
    if recipe.fine_tuning is not None and isinstance(space, InheritingSpace):
        parent = plan_parent(space, recipe, network)
        plans += [replace(parent, name="linear_probe", recipe=replace(parent.recipe, epochs=0, weights="best")), parent]
    plans.append(_thin_resnet(task, recipe, limit))
    members = _members(space, task, network, limit, seed)
    plans += [
        Baseline(f"random_{i}", space, _candidate(space, one), recipe, network) for i, one in enumerate(members, 1)
    ]
    if len(members) < MEMBERS:
        log.warning("found %d of %d random members of %s that cost about as much", len(members), MEMBERS, space.name)
    return plans


def plan_parent(space: InheritingSpace, recipe: Recipe, network: Mapping[str, Any]) -> Baseline:
    """Say how the parent is fine-tuned: as sub-networks are, but taught by nobody."""
    tuning = None if recipe.fine_tuning is None else recipe.fine_tuning.of_parent()
    return Baseline("parent", space, _candidate(space, space.largest), replace(recipe, fine_tuning=tuning), network)


def verdict(results: Sequence[Result], baselines: Sequence[Result]) -> str:
    """Say in a sentence what generation brought, by test accuracy; nothing where there is no random member."""
    finished = [result for result in results if result.status == "finished" and "top1" in result.test]
    members = [row for row in baselines if row.label.startswith("random") and row.status == "finished"]
    if not finished or not members:
        return ""
    best = max(finished, key=lambda result: result.val.get("top1", -1.0)).test["top1"]
    others = sum(row.test["top1"] for row in members) / len(members)
    if best <= others:
        return (
            f"generation brought nothing here: random members of the space that cost as much reach {others:.1f} % on test "
            f"images, the generated network {best:.1f} %"
        )
    return (
        f"the generated network reaches {best:.1f} % on test images, random members of the space that cost as much "
        f"{others:.1f} %"
    )


def _candidate(space: SearchSpace, genes: Tensor) -> Candidate:
    """An architecture that nothing has scored."""
    return Candidate(space.describe(genes), genes.tolist(), math.nan)


def _count(space: SearchSpace, genes: Tensor, task: ImageTask, network: Mapping[str, Any]) -> Costs:
    """Costs of one architecture, in closed form where the space has one."""
    shape = (task.in_channels, *task.image_size)
    counted = count_in_closed_form(space, genes, task.num_classes, shape, network)
    if counted is not None:
        return Costs(*counted.tolist())
    built = build_network(space, genes, task.num_classes, task.in_channels, network)
    return count_costs(built, shape)


def _thin_resnet(task: ImageTask, recipe: Recipe, limit: int) -> Baseline:
    """The widest ResNet-18 within a number of multiply-accumulates, of a width divisible by 4."""
    space, width = TransNAS101Macro(), 4
    genes = space.parse(RESNET)
    while width < 256 and _count(space, genes, task, {"channels": width + 4}).macs <= limit:
        width += 4
    scratch = recipe
    if recipe.fine_tuning is not None:
        scratch = Recipe(
            epochs=FROM_SCRATCH * recipe.epochs,
            label_smoothing=recipe.label_smoothing,
            mixup=0.2,
            weights="best" if recipe.weights == "best" else "last",
        )
    return Baseline("thin_resnet", space, _candidate(space, genes), scratch, {"channels": width})


def _members(space: SearchSpace, task: ImageTask, network: Mapping[str, Any], limit: int, seed: int) -> list[Tensor]:
    """Draw distinct random members that cost 70 to 100 % of a limit."""

    def fitting() -> Iterator[Tensor]:
        drawn, seen = space.random(Noise([seed]), 512)[0], set()
        for genes in drawn[space.valid(drawn)]:
            key = int(space.identity(genes))
            if key not in seen and 0.7 * limit <= _count(space, genes, task, network).macs <= limit:
                seen.add(key)
                yield genes

    return [genes for genes, _ in zip(fitting(), range(MEMBERS), strict=False)]
