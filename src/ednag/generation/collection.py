"""Making the meta data of a predictor: architectures trained briefly on many small tasks (``ednag collect``)."""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from ednag.core.fingerprint import fingerprint
from ednag.core.journal import append_line, read_lines
from ednag.core.reading import matches, read_json, reading
from ednag.core.storage import atomic_write, load_state, save_state, write_json
from ednag.data.sampling import Images, Pool, open_pool
from ednag.execution import Call, Executor
from ednag.fitness.training import Budget, TrainingFitness
from ednag.predictor.tasks import TaskDefinition, draw, read_tasks, sample_tasks, write_tasks
from ednag.samplers import Sampler
from ednag.spaces import SearchSpace

log = logging.getLogger(__name__)

Row = dict[str, Any]
"""One training: ``genes``, ``valid`` and ``test`` accuracy (percent; ``None`` if it failed), ``seconds``, ``seed``, and
``error``, its message or ``None``."""


@dataclass(frozen=True)
class Plan:
    """What is collected.

    Attributes:
        space: where architectures come from.
        sampler: chooses them, task by task, by the validation accuracies of that task so far. Its first proposals are
            random, later ones resemble the good ones, so that the top is resolved.
        architectures: distinct ones of each task.
        streams: tasks cycle through this many seeds of the sampler, so that those of equal seed begin with the same
            architectures.
        budget: of each training.
        network: options of the space's networks.
        seed: of weights and of the order of images.
    """

    space: SearchSpace
    sampler: Sampler
    architectures: int
    streams: int
    budget: Budget
    network: Mapping[str, int]
    seed: int = 0


class Collection:
    """Train the architectures of a plan on tasks, on any executor; a killed collection continues.

    The folder gets ``tasks.json``, ``rows/TASK.jsonl`` (one line a training, appended as it ends), ``pools/`` (the
    images at the tasks' size: a cache, not to be published) and ``rows.npz`` (everything, rewritten as tasks end).

    Args:
        folder: where everything is written.
        plan: what is collected.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        if plan.architectures < 1 or plan.streams < 1:
            raise ValueError(f"need architectures and streams >= 1, got {plan.architectures} and {plan.streams}")
        self.folder, self.plan = Path(folder), plan
        self.tasks: list[TaskDefinition] = []

    def prepare(
        self,
        sources: Mapping[str, pl.LightningDataModule],
        tasks: Mapping[str, int] | int,
        images: Mapping[str, int],
        image_size: int,
        most_classes: int,
        seed: int = 0,
    ) -> None:
        """Define the tasks and cache their sources' images; a folder that has them is left as it is.

        Args:
            sources: data modules by name.
            tasks: how many of each source.
            images: most images of each split of a task.
            image_size: side of the images in pixels.
            most_classes: most classes of a task.
            seed: of the choice of tasks.

        Raises:
            ValueError: for a number of tasks of an unknown source, or a source that is no classification task.
        """
        counts = dict.fromkeys(sources, tasks) if isinstance(tasks, int) else dict(tasks)
        if odd := sorted(set(counts) ^ set(sources)):
            raise ValueError(f"sources and numbers of tasks must name the same data sets; not in both: {odd}")
        if not sources:
            raise ValueError("name at least one source of images, see configs/collect/")
        self._claim(fingerprint(counts, images, image_size, most_classes, seed))
        listing = self.folder / "tasks.json"
        defined: list[list[TaskDefinition]] = []
        for name, data in sources.items():
            if not self._pool(name).exists():
                pool = open_pool(data, image_size)
                save_state(self._pool(name), {part: images._asdict() for part, images in pool._asdict().items()})
            if not listing.exists():
                pool = load_pool(self._pool(name))
                some = sample_tasks(name, pool.num_classes, counts[name], images, image_size, most_classes, seed=seed)
                defined.append([draw(pool, task)[0] for task in some])
        if defined:
            write_tasks(listing, self.plan.space.name, list(interleaved(defined)))
        self.tasks = read_tasks(listing)

    def _claim(self, tasks: str) -> None:
        """Note in the folder what is collected, or check that it is the same; there may be more architectures.

        Raises:
            ValueError: if the folder holds another collection.
        """
        plan, path = self.plan, self.folder / "plan.json"
        parts = plan.space, plan.sampler, plan.streams, plan.budget, dict(plan.network), plan.seed
        asked = {"plan": fingerprint(*parts), "tasks": tasks}
        if not path.exists():
            write_json(path, asked)
        elif (known := read_json(path, "the plan of `ednag collect`", "choose another --run_dir", dict)) != asked:
            odd = ", ".join(name for name in asked if known.get(name) != asked[name])
            raise ValueError(f"{self.folder} holds another collection (different: {odd}); choose another --run_dir")

    def run(self, executor: Executor, observe: Callable[[int], None] | None = None) -> dict[str, np.ndarray]:
        """Train everything that has not been trained yet.

        Args:
            executor: where; the trainings of one task are one call, as each depends on those before.
            observe: called now and then with the number of trainings that have ended, former sessions' included.

        Returns:
            the rows, see :meth:`save`. What a task lacks whose workers were lost again and again is missing.
        """
        todo = [i for i, task in enumerate(self.tasks) if len(self.rows(task)) < self.plan.architectures]
        if todo:
            executor.check(self.folder)
        watch = None if observe is None else lambda _: observe(self.ended)
        try:
            with closing(executor.run(map(self._call, todo), self.folder, self.plan, watch)) as outcomes:
                for outcome in outcomes:
                    if outcome.failure is not None and outcome.failure.fleeting:
                        why = outcome.failure.reason
                        log.warning("task %s is given up: %s; --resume tries it again", outcome.call.name, why)
                    else:
                        outcome.result()
                    self.save()
        finally:
            rows = self.save()
        return rows

    def _call(self, number: int) -> Call:
        """The trainings of one task, for an executor."""
        task = self.tasks[number]
        reads, writes, log = (pool_of(task.source),), (journal_of(task),), Path("logs") / f"{task.id}.txt"
        return Call(task.id, collect_task, (task, number), reads, writes, log)

    @property
    def ended(self) -> int:
        """Number of trainings that have ended."""
        return sum(len(self.rows(task)) for task in self.tasks)

    def rows(self, task: TaskDefinition) -> list[Row]:
        """Trainings of one task that have ended, in order."""
        return read_journal(self.folder / journal_of(task))

    def save(self) -> dict[str, np.ndarray]:
        """Write ``rows.npz``.

        Returns:
            its arrays: ``genes`` int8 ``(n, L)``, ``task`` int32 ``(n,)``, ``valid`` and ``test`` float32 ``(n,)`` in
            percent (NaN if a training failed), ``seconds`` float32, ``seed`` int64, and the texts ``space``,
            ``budget`` and ``versions``.
        """
        found = [(i, row) for i, task in enumerate(self.tasks) for row in self.rows(task)]
        budget = {**asdict(self.plan.budget), "network": dict(self.plan.network)}
        arrays: dict[str, np.ndarray] = {
            "genes": np.array([row["genes"] for _, row in found], dtype=np.int8),
            "task": np.array([i for i, _ in found], dtype=np.int32),
            **{
                name: np.array([np.nan if row[name] is None else row[name] for _, row in found], dtype=np.float32)
                for name in ("valid", "test", "seconds")
            },
            "seed": np.array([row["seed"] for _, row in found], dtype=np.int64),
            "space": np.array(self.plan.space.name),
            "budget": np.array(json.dumps(budget)),
            "versions": np.array(json.dumps({"python": platform.python_version(), "torch": torch.__version__})),
        }
        atomic_write(self.folder / "rows.npz", lambda stream: np.savez_compressed(stream, **arrays))  # type: ignore[arg-type]
        return arrays

    def _pool(self, source: str) -> Path:
        return self.folder / pool_of(source)


class JournalledTraining(TrainingFitness):
    """A short training whose outcome is appended to a journal, and taken from there if it is in it.

    Args:
        journal: the file.
        options: see :class:`TrainingFitness`.
    """

    def __init__(self, journal: Path, **options: Any) -> None:
        super().__init__(**options)
        self.journal = journal

    def score(self, genes: Tensor) -> Tensor:
        """Validation accuracy in percent; NaN if a training failed."""
        known = {tuple(row["genes"]): row["valid"] for row in read_journal(self.journal)}
        return torch.tensor([self._one(one, known) for one in genes], dtype=torch.float64)

    def _one(self, genes: Tensor, known: Mapping[tuple[int, ...], float | None]) -> float:
        key = tuple(genes.tolist())
        value = known[key] if key in known else self._train_and_note(genes)
        return torch.nan if value is None else value

    def _train_and_note(self, genes: Tensor) -> float | None:
        begun = time.perf_counter()
        row: Row = {"genes": genes.tolist(), "valid": None, "test": None, "seconds": 0.0, "seed": -1, "error": None}
        try:
            row |= self.train(genes)
        except (RuntimeError, ValueError) as error:  # such as a training that ran out of memory
            row |= {"error": str(error), "seconds": time.perf_counter() - begun}
            log.warning("a training failed: %s", error)
        append_line(self.journal, json.dumps(row))
        valid: float | None = row["valid"]
        return valid


def collect_task(folder: Path, plan: Plan, task: TaskDefinition, number: int) -> None:
    """Train the architectures of one task; what its journal holds is not trained again."""
    images = draw(load_pool(folder / pool_of(task.source)), task)[1]
    fitness = JournalledTraining(
        folder / journal_of(task), budget=plan.budget, network=dict(plan.network), seed=plan.seed
    )
    fitness.begin(plan.space, images)
    seeds = [plan.seed + number % plan.streams]
    plan.sampler.sample(plan.space, fitness, seeds, evaluations=plan.architectures)


def pool_of(source: str) -> Path:
    """Where the images of a source are, below the folder."""
    return Path("pools") / f"{source}.pt"


def journal_of(task: TaskDefinition) -> Path:
    """Where the trainings of a task are noted, below the folder."""
    return Path("rows") / f"{task.id}.jsonl"


def interleaved(groups: Sequence[Sequence[TaskDefinition]]) -> Iterator[TaskDefinition]:
    """Mix the tasks of all sources evenly, so that a part of the collection is like the whole."""
    placed = [((i + 0.5) / len(group), g, task) for g, group in enumerate(groups) for i, task in enumerate(group)]
    return (task for _, _, task in sorted(placed, key=lambda item: item[:2]))


def load_pool(path: Path) -> Pool:
    """Read the cached images of a source."""
    remedy = "delete it, and it is made again from its images"
    state = load_state(path, remedy=remedy)
    with reading(path, "the images of a source", remedy):
        return Pool(*(Images(**state[part]) for part in ("train", "test")))


def read_journal(path: Path) -> list[Row]:
    """Read the lines of a journal; one that a kill cut short is left out."""
    return read_lines(path, "delete it to train its task again", _is_row)


_COLUMNS = {
    "genes": list[int],
    "valid": float | None,
    "test": float | None,
    "seconds": float,
    "seed": int,
    "error": str | None,
}


def _is_row(content: Any) -> bool:
    """Whether a line of a journal is a training."""
    return isinstance(content, dict) and all(matches(content.get(n, ...), kind) for n, kind in _COLUMNS.items())
