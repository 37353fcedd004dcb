"""What is asked of an executor before a Trainer's verb begins."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl

from ednag.execution import Executor
from ednag.fitness import Fitness


def alone(trainer: pl.Trainer, executor: Executor | None) -> Executor | None:
    """Refuse workers beside the processes of a distributed Trainer: each of those would start its own.

    Raises:
        ValueError: in that case.
    """
    if executor is not None and executor.remote and trainer.world_size > 1:
        raise ValueError(
            f"{type(executor).__name__} trains several networks at a time, each on one device; leave --trainer.devices at 1"
        )
    return executor


def ready(trainer: pl.Trainer, executor: Executor | None, fitness: Fitness, trains: bool) -> Executor | None:
    """Check the workers of a generation before its first round: a retraining would come to them only in the end.

    Args:
        trainer: a generation that has ended in its folder needs no workers any more, or checks them when it retrains.
        executor: where trainings run; ``None`` for this process.
        fitness: may train each architecture.
        trains: whether networks are trained before the generation or after it.

    Raises:
        ValueError: if workers can't be had (:meth:`Executor.check`), or would have nothing to do.
        ModuleNotFoundError: if a package is missing.
    """
    folder = Path(trainer.default_root_dir)
    if alone(trainer, executor) is None or executor is None:
        return None
    if executor.remote and not (fitness.parallel or trains):
        raise ValueError(
            f"nothing would run on {type(executor).__name__}: {type(fitness).__name__} trains nothing; leave --executor out, "
            "add --retrain, or choose --fitness TrainingFitness"
        )
    if not (folder / "report.json").exists():
        executor.check(folder)
    return executor
