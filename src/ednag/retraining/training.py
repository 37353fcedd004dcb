"""The training of one architecture, resumed from its last checkpoint, and of several on any executor."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from ednag.classify.saved import ARCHITECTURE, save_network
from ednag.core.fingerprint import describe_object
from ednag.core.storage import write_json
from ednag.costs.counting import Costs, count_costs
from ednag.data.describe import ImageTask
from ednag.data.module import ImageDataModule
from ednag.execution import Call, Executor
from ednag.execution.base import Observer
from ednag.generation.report import Candidate
from ednag.retraining.baselines import Baseline
from ednag.retraining.evidence import Evidence
from ednag.retraining.finetuning import Freezing
from ednag.retraining.module import ImageClassifier, NonFiniteLoss, Recipe
from ednag.retraining.plan import build_candidate
from ednag.retraining.progress import LAST, EpochCheckpoint, read_checkpoint
from ednag.retraining.results import METRICS, Result, read_result
from ednag.spaces import SearchSpace
from ednag.spaces.building import build_network
from ednag.spaces.inheritance import InheritingSpace, Parent
from ednag.spaces.inverted_residual import InvertedResidualNetwork

log = logging.getLogger(__name__)

LOG = "log.txt"
"""What a training said; in its folder."""


class TrainerFactory(Protocol):
    """Makes the Trainer of one architecture; called anew for each, with keywords."""

    def __call__(self, *, folder: Path, max_epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
        """Make a Trainer.

        Args:
            folder: existing folder of this architecture, for logs.
            max_epochs: epochs to train in all, those before an interruption included.
            callbacks: must be among the Trainer's callbacks; they checkpoint, so no other ``ModelCheckpoint`` is needed.
        """


@dataclass(frozen=True)
class Shared:
    """What all trainings of a retraining share, and workers are sent once.

    Attributes:
        data: images; a module of this project is sent without them, and opens them there.
        make_trainer: makes the Trainer of one architecture.
        parent: fine-tuned, for networks that are cut out of it; ``None`` if they inherit the space's own weights.
    """

    data: pl.LightningDataModule
    make_trainer: TrainerFactory
    parent: nn.Module | None = None


def train_all(
    jobs: Mapping[str, Job],
    spaces: Mapping[str, SearchSpace],
    shared: Shared,
    run_dir: Path,
    executor: Executor,
    observe: Observer | None,
) -> Iterator[dict[str, Result]]:
    """Train what has no result yet.

    Yields:
        all results so far, by name, whenever there are more.
    """
    results = {name: found for name, job in jobs.items() if (found := read_result(job.folder)) is not None}
    if results:
        yield results
    missing = [name for name in jobs if name not in results]
    calls = (
        Call(name, train_one, (jobs[name], spaces[name]), writes=(Path(name),), log=Path(name) / LOG)
        for name in missing
    )
    if missing:
        executor.check(run_dir)
    with closing(executor.run(calls, run_dir, shared, observe)) as outcomes:
        for outcome in outcomes:
            name, failure = outcome.call.name, outcome.failure
            if failure is not None and failure.fleeting:
                results[name] = jobs[name].abandon(spaces[name], failure.reason)
            else:
                results[name] = outcome.result()
            yield results


def train_one(root: Path, shared: Shared, job: Job, space: SearchSpace) -> Result:
    """Train one architecture in a folder below ``root``, from its last checkpoint if there is one."""
    return replace(job, folder=root / job.folder.name).once(space, shared)


@dataclass(frozen=True)
class Job:
    """The training of one architecture.

    Attributes:
        rank: place in the report, from 1.
        candidate: the architecture.
        space: class path and arguments of its space, as in the report.
        task: what the network must take in and tell apart.
        recipe: how to train.
        network: options of ``space.build``.
        seed: of initial weights, and of what is random while training.
        folder: where everything is written.
        label: name of a baseline; empty for what was generated.
        report_images: whether small pictures of the worst mistakes are kept.
    """

    rank: int
    candidate: Candidate
    space: dict[str, Any]
    task: ImageTask
    recipe: Recipe
    network: dict[str, Any]
    seed: int
    folder: Path
    report_images: bool = True
    label: str = ""

    @classmethod
    def of_baseline(cls, plan: Baseline, task: ImageTask, seed: int, run_dir: Path, report_images: bool) -> Job:
        """The training of a baseline."""
        return cls(
            rank=0,
            candidate=plan.candidate,
            space=describe_object(plan.space),
            task=task,
            recipe=plan.recipe,
            network=dict(plan.network),
            seed=seed,
            folder=run_dir / f"baseline_{plan.name}",
            report_images=report_images,
            label=plan.name,
        )

    def once(self, space: SearchSpace, shared: Shared) -> Result:
        """Read the result, or :meth:`run` and write it."""
        result = read_result(self.folder)
        if result is None:
            result = self.run(space, shared)
            write_json(self.folder / METRICS, asdict(result))
        return result

    def abandon(self, space: SearchSpace, reason: str) -> Result:
        """Write down that the training failed for a reason outside of it, as far as can be said from here."""
        log.warning("architecture %d (%s) failed: %s", self.rank, self.candidate.architecture, reason)
        with torch.random.fork_rng(devices=[]):
            costs = count_costs(self.build(space), (self.task.in_channels, *self.task.image_size))
        write_json(self.folder / ARCHITECTURE, self.describe())
        result = self.result(costs, EpochCheckpoint(self.folder, self.seed), {}, reason)
        write_json(self.folder / METRICS, asdict(result))
        return result

    def run(self, space: SearchSpace, shared: Shared) -> Result:
        """Build, train, test and save, from the last checkpoint if there is one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        devices = [*range(torch.cuda.device_count())]
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.seed)
            network = self.build(space)
            costs = count_costs(network, (self.task.in_channels, *self.task.image_size))
            write_json(self.folder / ARCHITECTURE, self.describe())
            checkpoint = EpochCheckpoint(self.folder, self.seed, self.recipe.weights)
            evidence = Evidence()
            teacher = self.prepare(network, space, shared.data, shared.parent)
            trainer = shared.make_trainer(
                folder=self.folder, max_epochs=self.recipe.epochs, callbacks=[evidence, checkpoint, *self.freezing()]
            )
            whose = self.parent_of(space)
            classifier = ImageClassifier(network, self.task.num_classes, self.recipe, self.seed, teacher, whose)
            try:
                scores = self.train(trainer, classifier, shared.data, checkpoint)
            except NonFiniteLoss as error:
                log.warning("architecture %d (%s) failed: %s", self.rank, self.candidate.architecture, error)
                return self.result(costs, checkpoint, {}, reason=str(error))
        if not all(math.isfinite(value) for value in scores.values()):
            return self.result(costs, checkpoint, {}, reason=f"a metric is not finite: {scores}")
        save_network(self.folder, network, self.describe())
        evidence.save(self.folder, shared.data, self.report_images)
        return self.result(costs, checkpoint, scores)

    def build(self, space: SearchSpace) -> nn.Module:
        """Build the network.

        Raises:
            ValueError: if the space doesn't know an option.
        """
        return build_candidate(self.candidate, space, self.task, self.network)

    def prepare(
        self, network: nn.Module, space: SearchSpace, data: pl.LightningDataModule, trained: nn.Module | None
    ) -> nn.Module | None:
        """Begin fine-tuning, if the recipe asks for it and no checkpoint does; return the teacher, if there is one."""
        options = self.recipe.fine_tuning
        if options is None:
            return None
        teacher = trained.cpu() if options.through_parent and trained is not None else None  # an earlier job moved it
        if not (self.folder / LAST).exists():
            parent: Parent | None = None
            if isinstance(space, InheritingSpace) and isinstance(teacher, InvertedResidualNetwork):
                parent = space.parent().trained(teacher)
            options.begin(network, space, data, self.network, parent)
        if options.distillation == 0 or not isinstance(space, InheritingSpace):
            return None
        if teacher is None:
            teacher = build_network(space, space.largest, self.task.num_classes, self.task.in_channels, self.network)
            options.begin(teacher, space, data, self.network)
        return teacher

    def parent_of(self, space: SearchSpace) -> InheritingSpace | None:
        """The space whose random members learn with this network: that of which it is the parent, if the recipe asks for it."""
        options = self.recipe.fine_tuning
        if options is None or options.members == 0 or not isinstance(space, InheritingSpace):
            return None
        return space if self.candidate.genes == space.largest.tolist() else None

    def freezing(self) -> list[pl.Callback]:
        """What decides, epoch by epoch, which part of the network learns."""
        return [] if self.recipe.fine_tuning is None else [Freezing(self.recipe.fine_tuning)]

    def train(
        self,
        trainer: pl.Trainer,
        classifier: ImageClassifier,
        data: pl.LightningDataModule,
        checkpoint: EpochCheckpoint,
    ) -> dict[str, float]:
        """Fit, then measure the chosen weights on validation and test images; metrics by name."""
        if isinstance(data, ImageDataModule):
            data.restart()
        last = self.folder / LAST
        resumed = str(last) if last.exists() else None
        if resumed is not None:
            remedy = "delete it to train that architecture from its beginning"
            read_checkpoint(last, "the checkpoint of a training", remedy)
        if self.recipe.fine_tuning is not None and resumed is None:
            if before := _metrics(trainer.validate(classifier, datamodule=data, verbose=False)):
                checkpoint.begin(classifier, before)
            classifier.val_metrics.reset()  # validation left tensors of inference mode behind
        trainer.fit(classifier, datamodule=data, ckpt_path=resumed, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        how: dict[str, Any] = {"datamodule": data, "verbose": False, "weights_only": True}
        found = self.validated(trainer, classifier, checkpoint, how)
        return {**found, **_metrics(trainer.test(classifier, **how))}

    def validated(
        self, trainer: pl.Trainer, classifier: ImageClassifier, checkpoint: EpochCheckpoint, how: dict[str, Any]
    ) -> Mapping[str, float]:
        """Give a trained classifier the weights that are kept, and return their validation metrics."""
        found: list[tuple[float, Mapping[str, float], Mapping[str, Tensor]]] = []
        for weights in checkpoint.candidates(classifier.state_dict()):
            classifier.load_state_dict(weights)
            metrics = _metrics(trainer.validate(classifier, **how))
            loss = metrics.get("val/nll", math.inf)
            found.append((math.inf if math.isnan(loss) else loss, metrics, weights))
        _, metrics, weights = min(found, key=lambda one: one[0])
        classifier.load_state_dict(weights)
        return metrics

    def describe(self) -> dict[str, Any]:
        """Everything that is needed to build the network again, as in ``architecture.json``."""
        return {
            "space": self.space,
            "genes": self.candidate.genes,
            "architecture": self.candidate.architecture,
            "network": self.network,
            **asdict(self.task),
        }

    def result(self, costs: Costs, checkpoint: EpochCheckpoint, scores: dict[str, float], reason: str = "") -> Result:
        """Put together what ``metrics.json`` holds."""
        seconds = checkpoint.seconds
        return Result(
            rank=self.rank,
            architecture=self.candidate.architecture,
            genes=self.candidate.genes,
            fitness=self.candidate.fitness if math.isfinite(self.candidate.fitness) else None,
            status="failed" if reason else "finished",
            reason=reason,
            params=costs.params,
            macs=costs.macs,
            val={name.removeprefix("val/"): v for name, v in scores.items() if name.startswith("val/")},
            test={name.removeprefix("test/"): v for name, v in scores.items() if name.startswith("test/")},
            epochs=checkpoint.epochs,
            seconds=seconds,
            images_per_second=checkpoint.images / seconds if seconds > 0 else 0.0,
            seed=self.seed,
            start={name.removeprefix("val/"): value for name, value in checkpoint.start.items()},
            label=self.label,
        )


def _metrics(found: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """What a Trainer has measured on its one set of images; empty if it was told to look at none."""
    return found[0] if found else {}


def default_trainer(*, folder: Path, max_epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Make a plain Trainer that logs to CSV; see :class:`TrainerFactory`."""
    logger = CSVLogger(folder, name="logs")
    return pl.Trainer(default_root_dir=folder, max_epochs=max_epochs, callbacks=callbacks, logger=logger)
