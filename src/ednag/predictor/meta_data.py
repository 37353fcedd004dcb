"""Meta data for training a predictor: whole tasks as batches, split by source."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ednag.core.inputs import sha256
from ednag.core.shipped import shipped_file
from ednag.predictor.budgets import budget_of_rows
from ednag.predictor.features import features_path, load_features, save_features
from ednag.predictor.table_tasks import TableTask, read_table_tasks
from ednag.predictor.task_features import TaskFeatures, read_sources
from ednag.predictor.task_rows import TaskRows, read_rows
from ednag.predictor.tasks import MissingImagesError, TaskDefinition, read_tasks

log = logging.getLogger(__name__)

REMEDY = (
    "Get the files (data/README.md), or leave out the tasks of sources that are not here with --data.skip_missing true"
)

NOTHING = torch.zeros(0, 1, 1)
"""Features of a task of which no image is shown."""

TEST_SOURCES = ("cifar10", "sign_digits", "fashion_mnist")
"""Sources that the shipped predictor never sees in training."""


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
        tables: benchmark tables that teach beside the rows: ``nasbench201``, without the data sets among ``test_sources``,
            or single data sets: ``nasbench201/cifar100``.
        table_rows: architectures of each of their columns in a batch, drawn anew.
        images: whether to describe tasks by their images; ``False`` for a predictor that looks at none, which needs neither
            images nor features.
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
        tables: Sequence[str] = (),
        table_rows: int = 128,
        images: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < val_fraction < 1 or min(batch_size, table_rows) < 1 or least_rows < 2:
            raise ValueError(
                "need 0 < val_fraction < 1, batch_size and table_rows >= 1, and least_rows >= 2; "
                f"got {val_fraction}, {batch_size}, {table_rows} and {least_rows}"
            )
        self.tables, self.table_rows, self.images = tuple(tables), table_rows, images
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
        features = self._all_features(used) if self.images else dict.fromkeys(used, NOTHING)
        used = list(features)
        split = self._split(used)
        budgets = {i: self._budget(i) for i in used}
        tables = [one for table in self.tables for one in self._table_tasks(table)]
        self._parts = {
            name: TaskRows(self.rows, features, part, budgets, tables if name == "train" else (), self.table_rows)
            for name, part in split.items()
        }
        empty = [name for name in ("train", "val") if len(self._parts[name]) == 0]
        if empty:
            raise ValueError(f"no task is left for {empty[0]}; there are sources {', '.join(self._sources(used))}")

    def digest(self) -> dict[str, str]:
        """Tell the rows and tasks apart from any others."""
        return {path.name: sha256(path) for path in self.files[:2]}

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

    def _budget(self, task: int) -> Tensor:
        """Encode the budget of a task's trainings."""
        one = self.tasks[task]
        images = int(one.drawn.get("train", one.images.get("train", 1)))  # the same for all where nobody says
        return budget_of_rows(self.rows.budget, images, one.image_size, len(one.classes)).encode()

    def _table_tasks(self, table: str) -> list[TableTask]:
        """Read a table's columns, without the data sets of the test."""
        if table.split("/")[0] != self.rows.space:
            raise ValueError(f"the table {table} can't teach about {self.rows.space}, the space of the rows")
        return read_table_tasks(table, self.test_sources)

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
