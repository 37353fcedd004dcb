"""Meta data for training a predictor: rows of accuracies, whole tasks as batches, splits by source."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ednag.core.reading import read_npz, reading
from ednag.core.shipped import shipped_file
from ednag.predictor.features import features_path, load_features, save_features
from ednag.predictor.task_features import TaskFeatures, read_sources
from ednag.predictor.tasks import MissingImagesError, TaskDefinition, read_tasks

log = logging.getLogger(__name__)

REMEDY = (
    "Get the files (data/README.md), or leave out the tasks of sources that are not here with --data.skip_missing true"
)

TEST_SOURCES = ("cifar10", "sign_digits", "fashion_mnist")
"""Sources that the shipped predictor never sees in training."""


class TaskBatch(NamedTuple):
    """Tasks with all their rows, padded to the longest.

    Attributes:
        features: of the images of each class, ``(T, K, m, F)``.
        present: which classes a task has, bool ``(T, K)``.
        genes: architectures, int64 ``(T, N, L)``.
        accuracy: percent, float32 ``(T, N)``.
        measured: which rows a task has, bool ``(T, N)``.
        row: number of each row in the meta data, int64 ``(T, N)``.
    """

    features: Tensor
    present: Tensor
    genes: Tensor
    accuracy: Tensor
    measured: Tensor
    row: Tensor


@dataclass(frozen=True)
class Rows:
    """Trained architectures.

    Attributes:
        genes: int64 ``(n, L)``.
        task: index into the list of tasks, int64 ``(n,)``.
        accuracy: percent, float32 ``(n,)``.
        space: short name of the search space.
    """

    genes: Tensor
    task: Tensor
    accuracy: Tensor
    space: str


def read_rows(path: Path, target: Literal["mean", "valid", "test"] = "mean") -> Rows:
    """Read the rows that ``ednag collect`` wrote, without those whose training failed.

    Args:
        path: the ``.npz``.
        target: which accuracy to learn; the mean of both has the least noise.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is something else.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no meta data at {path}; make them with `ednag collect`")
    kind, remedy = "rows of meta data", "`ednag collect` writes them"
    content = read_npz(Path(path), kind, remedy)
    with reading(path, kind, remedy):
        genes, task = torch.from_numpy(content["genes"]).long(), torch.from_numpy(content["task"]).long()
        valid, test = (torch.from_numpy(content[name]).float() for name in ("valid", "test"))
        space = str(content["space"])
        if genes.ndim != 2 or not task.shape == valid.shape == test.shape == genes.shape[:1]:
            raise ValueError("its arrays have different lengths")
    accuracy = {"mean": (valid + test) / 2, "valid": valid, "test": test}[target]
    kept = accuracy.isfinite()
    return Rows(genes[kept], task[kept], accuracy[kept], space)


class TaskRows(Dataset[int]):
    """Some of the tasks; a batch is made of all rows of each.

    Args:
        rows: all rows.
        features: of each task, ``(K, m, F)``, by its index.
        chosen: indices of the tasks.
    """

    def __init__(self, rows: Rows, features: dict[int, Tensor], chosen: Sequence[int]) -> None:
        self.rows, self.features, self.chosen = rows, features, list(chosen)
        self.members = {task: (rows.task == task).nonzero().flatten() for task in self.chosen}

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> int:
        return self.chosen[index]

    def collate(self, tasks: Sequence[int]) -> TaskBatch:
        """Pad tasks, given by their indices, into one batch."""
        members = [self.members[task] for task in tasks]
        features = [self.features[task] for task in tasks]
        classes, longest = max(map(len, features)), max(map(len, members))
        padded = torch.zeros(len(tasks), classes, *features[0].shape[1:])
        row = torch.zeros(len(tasks), longest, dtype=torch.int64)
        for i, (some, index) in enumerate(zip(features, members, strict=True)):
            padded[i, : len(some)] = some
            row[i, : len(index)] = index
        present = torch.arange(classes) < torch.tensor([len(some) for some in features])[:, None]
        measured = torch.arange(longest) < torch.tensor([len(index) for index in members])[:, None]
        return TaskBatch(padded, present, self.rows.genes[row], self.rows.accuracy[row], measured, row)


class MetaData(pl.LightningDataModule):
    """Rows and tasks of ``ednag collect``, split by source: no source is in two of training, validation and test.

    Args:
        rows: ``rows.npz``.
        tasks: ``tasks.json``.
        features: folder of the tasks' image features, one file a task.
        extractor: name of the feature extractor that made them.
        test_sources: never trained on nor selected by; the test loader.
        val_sources: early stopping and checkpoints look at them; drawn from the others by ``val_fraction`` where empty.
        val_fraction: share of the sources that are not for testing, in (0, 1); one source at least.
        batch_size: tasks per batch.
        target: accuracy to learn: of the validation or the test images of the task, or their mean.
        least_rows: tasks with fewer rows (training failed, or is still to come) are left out.
        sources: where the images are, for the features of tasks that have no file: the configuration that the tasks were
            collected with (``collect/nasbench201``, or ``RUN/config.yaml`` of ``ednag collect``), or data
            modules by the names of the sources. ``None`` to refuse such tasks.
        skip_missing: leave out the tasks that have no features and whose images are not here, with a warning that counts
            them by source; of ``test_sources`` and ``val_sources``, those that have tasks then count.
        seed: of the order of tasks and the choice of validation sources.

    Examples:
        >>> MetaData(batch_size=4).batch_size
        4
    """

    def __init__(
        self,
        rows: Path = Path("data/meta/rows.npz"),
        tasks: Path = Path("data/meta/tasks.json"),
        features: Path = Path("data/downloads/meta_features"),
        extractor: str = "efficientnet_lite0",
        test_sources: Sequence[str] = TEST_SOURCES,
        val_sources: Sequence[str] = (),
        val_fraction: float = 0.2,
        batch_size: int = 16,
        target: Literal["mean", "valid", "test"] = "mean",
        least_rows: int = 5,
        sources: dict[str, pl.LightningDataModule] | Path | None = None,
        skip_missing: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < val_fraction < 1 or batch_size < 1 or least_rows < 2:
            raise ValueError(
                "need 0 < val_fraction < 1, batch_size >= 1 and least_rows >= 2; "
                f"got {val_fraction}, {batch_size} and {least_rows}"
            )
        self.files = shipped_file(Path(rows)), shipped_file(Path(tasks)), Path(features)
        self.extractor, self.target = extractor, target
        self.sources, self.skip_missing = sources, skip_missing
        self.test_sources, self.val_sources, self.val_fraction = tuple(test_sources), tuple(val_sources), val_fraction
        self.batch_size, self.least_rows, self.seed = batch_size, least_rows, seed
        self._parts: dict[str, TaskRows] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read everything once, whatever the stage.

        Raises:
            FileNotFoundError: if the rows, the tasks or, with no way to recompute them, features are missing.
            MissingImagesError: if features are missing and can't be recomputed from the images here.
            ValueError: if a file is damaged, a named source has no tasks, or a split has none.
        """
        if self._parts is not None:
            return
        self.rows = read_rows(self.files[0], self.target)
        if not self.files[1].exists():
            raise FileNotFoundError(
                f"no task definitions at {self.files[1]}; `ednag collect` writes them with the rows"
            )
        self.tasks = read_tasks(self.files[1])
        if len(self.rows.task) == 0 or int(self.rows.task.max()) >= len(self.tasks):
            raise ValueError(f"{self.files[0]} has no rows, or rows of tasks that {self.files[1]} does not define")
        count = self.rows.task.bincount(minlength=len(self.tasks))
        used = [i for i, n in enumerate(count.tolist()) if n >= self.least_rows]
        self._check_sources(used)
        features = self._all_features(used)
        used = list(features)
        split = self._split(used)
        self._parts = {name: TaskRows(self.rows, features, part) for name, part in split.items()}
        empty = [name for name in ("train", "val") if len(self._parts[name]) == 0]
        if empty:
            raise ValueError(f"no task is left for {empty[0]}; there are sources {', '.join(self._sources(used))}")

    def part(self, name: Literal["train", "val", "test"]) -> TaskRows:
        """Tasks of one split."""
        self.setup()
        if self._parts is None:
            raise RuntimeError("the meta data could not be set up")
        return self._parts[name]

    def train_dataloader(self) -> DataLoader[int]:
        """Tasks to train on, shuffled."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[int]:
        """Tasks of the validation sources."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[int]:
        """Tasks of the test sources."""
        return self._loader("test")

    def _loader(self, name: Literal["train", "val", "test"]) -> DataLoader[int]:
        part = self.part(name)
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(part, self.batch_size, shuffle=name == "train", collate_fn=part.collate, generator=generator)

    def _sources(self, tasks: Sequence[int]) -> list[str]:
        """Sources of some tasks, in order of appearance."""
        return list(dict.fromkeys(self.tasks[i].source for i in tasks))

    def _check_sources(self, used: Sequence[int]) -> None:
        """Refuse validation sources that can't be."""
        sources = self._sources(used)
        for name in self.val_sources:
            if name not in sources or name in self.test_sources:
                raise ValueError(
                    f"val source {name!r} is a test source or has no tasks; there are {', '.join(sources)}"
                )

    def _split(self, used: Sequence[int]) -> dict[str, list[int]]:
        """Divide tasks by their source; where one source is all there is beside the tests, hold out some of its tasks."""
        rest = [i for i in used if self.tasks[i].source not in self.test_sources]
        group = {i: self.tasks[i].source if len(self._sources(rest)) > 1 else str(i) for i in rest}
        held = set(self.val_sources) & set(group.values()) or self._hold_out(list(dict.fromkeys(group.values())))
        parts: dict[str, list[int]] = {"train": [], "val": [], "test": []}
        for i in used:
            parts["test" if i not in group else "val" if group[i] in held else "train"].append(i)
        return parts

    def _hold_out(self, groups: Sequence[str]) -> set[str]:
        """Draw a share of some groups."""
        order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(self.seed)).tolist()
        return {groups[i] for i in order[: max(round(self.val_fraction * len(groups)), 1)]}

    def _all_features(self, used: Sequence[int]) -> dict[int, Tensor]:
        """Features of tasks, by their indices: from the cache, else recomputed and cached."""
        paths = {i: features_path(self.files[2], self.tasks[i].sha256, self.extractor) for i in used}
        if absent := [i for i in used if not paths[i].exists()]:
            make, missing = self._maker(self.tasks[absent[0]]), dict[str, str]()
            for i in tqdm(absent, desc="image features", unit=" tasks"):
                task = self.tasks[i]
                try:
                    if task.source not in missing:
                        save_features(paths[i], make(task))
                except MissingImagesError as error:
                    if not self.skip_missing:
                        raise MissingImagesError(f"{error}. {REMEDY}") from None
                    missing[task.source] = str(error)
            for source, reason in missing.items():
                left = sum(self.tasks[i].source == source and not paths[i].exists() for i in absent)
                log.warning("left out %d of %d tasks: %s", left, len(used), reason)
        return {i: load_features(path) for i, path in paths.items() if path.exists()}

    def _maker(self, task: TaskDefinition) -> TaskFeatures:
        """What makes the features that are missing, such as those of a task."""
        if self.sources is None:
            raise FileNotFoundError(
                f"no features of task {task.id} in {self.files[2]}; say where the images of {task.source} are, so that "
                "they are made: --data.sources collect/nasbench201, or RUN/config.yaml of `ednag collect`"
            )
        named = self.sources if isinstance(self.sources, dict) else read_sources(self.sources)
        return TaskFeatures(named, self.extractor)
