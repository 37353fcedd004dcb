"""Train the best architectures of a report, on any executor; a killed job can be resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from ednag.core.storage import write_json
from ednag.data.describe import describe_data
from ednag.data.digests import describe_splits
from ednag.data.module import ImageDataModule
from ednag.execution import Executor, InProcess
from ednag.execution.base import Observer
from ednag.generation.report import Report
from ednag.retraining.baselines import plan_baselines, verdict
from ednag.retraining.module import Recipe
from ednag.retraining.parent import adopt, comes_first, parent_job, train_parent
from ednag.retraining.plan import check_limits, check_space, claim, describe_job
from ednag.retraining.results import Summary
from ednag.retraining.training import Job, Shared, TrainerFactory, default_trainer, train_all
from ednag.spaces import SearchSpace


def retrain(
    report: Report,
    space: SearchSpace,
    data: pl.LightningDataModule,
    recipe: Recipe,
    run_dir: Path,
    make_trainer: TrainerFactory | None = None,
    top_k: int | None = None,
    network: Mapping[str, Any] | None = None,
    seed: int = 0,
    supernets: Sequence[Mapping[str, Any]] = (),
    baselines: bool = False,
    report_images: bool = True,
    executor: Executor | None = None,
    observe: Observer | None = None,
    earlier: Path | None = None,
) -> Summary:
    """Train, test and save the best architectures of a report.

    Each gets a folder ``run_dir/<rank>`` with ``architecture.json``, ``last.ckpt``, ``weights.safetensors``,
    ``metrics.json``, and for the report ``curves.csv``, ``predictions.npz`` and ``mistakes.npz``; across them there are ``summary.json`` and ``summary.csv``. Called again with the same arguments
    after a kill, it trains no finished architecture again and continues the current one after its last finished
    epoch. The global random numbers are as before when it returns.

    Args:
        report: result of ``ednag generate``.
        space: what the genes mean; the report's own.
        data: images; see :func:`ednag.data.describe.describe_data` for what a module of your own must offer.
        recipe: how to train.
        run_dir: folder of this run; made if it is missing.
        make_trainer: makes the Trainer of one architecture; :func:`default_trainer` if omitted.
        top_k: how many architectures, the best first; all if omitted.
        network: options of ``space.build``, such as ``channels`` and ``cells``.
        seed: of initial weights, and of what is random while training.
        supernets: where initial weights come from, if from supernets: their paths and digests, to be written down.
        baselines: train what :func:`~ednag.retraining.baselines.plan_baselines` says as well.
        report_images: whether small pictures of the worst mistakes are kept for the report.
        executor: where trainings run; one after the other in this process if omitted.
        observe: told what runs, see :data:`~ednag.execution.base.Observer`.
        earlier: folder where :func:`~ednag.retraining.parent.tuned_parent` may have fine-tuned the parent before: it is
            taken over if it is the one that would be trained here.

    Returns:
        one result for each architecture. One whose loss becomes non-finite, that doesn't fit into the accelerator's memory,
        or that its workers did not survive, is recorded as failed; the rest go on.

    Raises:
        ValueError: if nothing is to be trained, an architecture's text or genes are not of the space or not of each
            other, ``run_dir`` holds another retraining, or the images or a network option don't suit.
    """
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be >= 1, got {top_k}")
    chosen = report.candidates[:top_k]
    if not chosen:
        raise ValueError("the report has no architecture to retrain; generate with a larger top_k or fewer constraints")
    check_space(report, space, chosen)
    run_dir, options = Path(run_dir), dict(network or {})
    task = describe_data(data)
    check_limits(report, space, chosen, task, options)
    claim(run_dir, describe_job(report, chosen, task, recipe, options, seed, data, supernets))
    executor, shared = executor or InProcess(), Shared(data, make_trainer or default_trainer)
    where = (task, seed, run_dir, report_images)
    if comes_first(space, recipe):
        first = parent_job(space, task, recipe, options, seed, run_dir, report_images)
        if earlier is not None:
            adopt(first, data, earlier)
        shared = replace(shared, parent=train_parent(first, space, shared, executor, observe))
    jobs = {
        f"{rank:03d}": Job(
            rank, candidate, report.space, task, recipe, options, seed, run_dir / f"{rank:03d}", report_images
        )
        for rank, candidate in enumerate(chosen, 1)
    }
    spaces = dict.fromkeys(jobs, space)
    for plan in plan_baselines(space, torch.tensor(chosen[0].genes), task, recipe, options, seed) if baselines else ():
        job = Job.of_baseline(plan, *where)
        jobs[job.folder.name], spaces[job.folder.name] = job, plan.space
    summary = Summary([], run_dir, list(supernets))
    for results in train_all(jobs, spaces, shared, run_dir, executor, observe):
        found = [results[name] for name in jobs if name in results]
        summary = replace(summary, results=[r for r in found if not r.label], baselines=[r for r in found if r.label])
        summary = replace(summary, verdict=verdict(summary.results, summary.baselines))
        summary.save()
    if isinstance(data, ImageDataModule) and not (run_dir / "data.json").exists():
        write_json(run_dir / "data.json", describe_splits(data))
    return summary
