"""What a retraining is asked to do: whether it can be done, and what its directory is for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from ednag.core.reading import read_json
from ednag.core.storage import write_json
from ednag.costs.counting import count_costs
from ednag.costs.model import LIMITED
from ednag.data.describe import ImageTask
from ednag.data.digests import differing, identity
from ednag.generation.report import Candidate, Report
from ednag.retraining.module import Recipe
from ednag.spaces import SearchSpace
from ednag.spaces.building import check_sizes


def build_candidate(candidate: Candidate, space: SearchSpace, task: ImageTask, options: Mapping[str, Any]) -> nn.Module:
    """Build the network of an architecture for a task.

    Raises:
        ValueError: if the space doesn't know an option, or a size is out of range.
    """
    check_sizes(space, options)
    genes = torch.tensor(candidate.genes)
    try:
        return space.build(genes, task.num_classes, **{"in_channels": task.in_channels, **options})
    except TypeError as error:
        raise ValueError(f"network options {dict(options)} don't suit {space.name} ({error})") from None


def check_space(report: Report, space: SearchSpace, chosen: list[Candidate]) -> None:
    """Refuse a space that is not the report's, and architectures that are not of the space."""
    named = str(report.space.get("class_path", "")).rpartition(".")[2]
    if named != type(space).__name__:
        raise ValueError(f"the report is of the search space {named or '(none)'}, not of {type(space).__name__}")
    for candidate in chosen:
        genes = space.check(torch.tensor(candidate.genes))
        try:
            named_genes = space.parse(candidate.architecture)
        except ValueError as error:
            raise ValueError(f"the report names an architecture that is not of {space.name}: {error}") from None
        if space.identity(named_genes) != space.identity(genes):
            raise ValueError(
                f"the genes {candidate.genes} in the report are {space.describe(genes)}, not the architecture named "
                f"beside them, {candidate.architecture}; generate the report again"
            )


def check_limits(
    report: Report, space: SearchSpace, chosen: list[Candidate], task: ImageTask, options: dict[str, Any]
) -> None:
    """Refuse networks that cost more as built here than the report's generation allowed, which may have counted others."""
    counted = {name: limit for name, limit in report.limits.items() if name in ("max_params", "max_flops")}
    for candidate in chosen if counted else ():
        with torch.random.fork_rng(devices=[]):
            network = build_candidate(candidate, space, task, options)
        costs = count_costs(network, (task.in_channels, *task.image_size))
        for name, limit in counted.items():
            cost = getattr(costs, LIMITED[name])
            if cost > limit:
                raise ValueError(
                    f"{candidate.architecture} has {cost:,} {LIMITED[name]} as built here, more than the {name} of "
                    f"{limit:,.0f} that its generation was given; count the network that is built (generate with the same "
                    "--cost.network as retrain's --network), or generate without the limit"
                )


def describe_job(
    report: Report,
    chosen: list[Candidate],
    task: ImageTask,
    recipe: Recipe,
    network: dict[str, Any],
    seed: int,
    data: pl.LightningDataModule,
    supernets: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Write down what a run directory is for, so that it is never continued as something else."""
    return {
        "space": report.space,
        "architectures": [candidate.genes for candidate in chosen],
        "network": network,
        "seed": seed,
        "recipe": recipe.settings(),
        "data": {
            **identity(data),
            "num_classes": task.num_classes,
            "in_channels": task.in_channels,
            "image_size": list(task.image_size),
        },
        **({"supernets": [dict(supernet) for supernet in supernets]} if supernets else {}),
    }


def claim(run_dir: Path, job: dict[str, Any]) -> None:
    """Make the run directory, or check that it is of the same job."""
    path = run_dir / JOB
    if not path.exists():
        write_json(path, job)
        return
    different = different_parts(run_dir, job)
    if list(different) == ["data"]:
        raise ValueError(
            f"the images, or how they are read, are not those that {run_dir} was begun with "
            f"(different: {different['data']}); resume it with the same ones, wherever they are "
            "(--data.root), or choose a new run directory"
        )
    if different:
        raise ValueError(
            f"{run_dir} holds another retraining (different: {', '.join(different)}); resume it with its own "
            "arguments and version of EDNAG, or choose a new run directory"
        )


def different_parts(run_dir: Path, job: dict[str, Any]) -> dict[str, str]:
    """Name the parts in which a job is not that of a run directory, and of its data what differs."""
    known = read_json(run_dir / JOB, "the job of a retraining", "choose a new run directory", dict)
    asked = json.loads(json.dumps(job))
    noted = known.get("data", {}).get("content", {}) if isinstance(known.get("data"), dict) else {}
    if noted and "test" not in noted:  # digests of some test images are younger than the run
        asked["data"]["content"].pop("test", None)
    names = [name for name in {**job, **known} if known.get(name) != asked.get(name)]
    return {name: differing(known.get(name), asked["data"]) if name == "data" else name for name in names}


JOB = "job.json"
"""What a run directory of a retraining is for."""
