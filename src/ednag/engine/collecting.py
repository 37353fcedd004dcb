"""A collection of meta data under a progress bar, with its manifest and its page."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from tqdm.auto import tqdm

from ednag.core.manifest import manifest
from ednag.core.storage import write_json
from ednag.engine.reporting import finish
from ednag.execution import Executor
from ednag.generation.collection import Collection


def run_collection(collection: Collection, trainer: pl.Trainer, executor: Executor, begun: float) -> dict[str, Any]:
    """Train what a collection lacks, and write its manifest and its page.

    Args:
        collection: with its tasks.
        trainer: says whether progress is shown, and where to.
        executor: where trainings run.
        begun: when this session began, as ``time.perf_counter`` tells it.

    Returns:
        ``tasks``, ``rows`` and ``failed``, which are counts, and ``training_seconds``.
    """
    plan, folder = collection.plan, collection.folder
    with tqdm(
        total=plan.architectures * len(collection.tasks),
        unit=" trainings",
        initial=collection.ended,
        smoothing=0.02,
        disable=trainer.progress_bar_callback is None,
    ) as bar:
        rows = collection.run(executor, lambda ended: bar.update(ended - bar.n))
    counts = {
        "tasks": len(collection.tasks),
        "rows": len(rows["task"]),
        "failed": int(np.isnan(rows["valid"]).sum()),
    }
    seconds = {"training": float(rows["seconds"].sum()), "this_session": time.perf_counter() - begun}
    write_json(folder / "manifest.json", manifest([plan.seed], torch.device("cpu"), counts, seconds))
    finish(folder, trainer.loggers)
    return {**counts, "training_seconds": seconds["training"]}
