import re
import time
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from ednag.cli.output import report_table
from ednag.core.interruption import Stopped
from ednag.core.storage import load_state, save_state
from ednag.costs.model import CostModel, Limits
from ednag.engine.callbacks import GenerationCallback
from ednag.engine.trainer import Trainer
from ednag.fitness import BenchmarkFitness, Fitness, KnowledgeFitness, ZeroCostFitness
from ednag.generation.estimate import estimate
from ednag.generation.report import Report
from ednag.generation.run import Generation
from ednag.samplers import ArchiveDiffusion, ParetoDiffusion, RandomSearch, RegularisedEvolution
from ednag.spaces import NASBench201
from tests.conftest import TABLES


class Convolutions(Fitness):
    """How many edges carry a 3x3 convolution; cells that begin with one fail."""

    name = "3x3 convolutions"

    def score(self, genes: Tensor) -> Tensor:
        return (genes == 3).sum(-1).double().where(genes[:, 0] != 3, torch.nan)

    def reveal(self, genes: Tensor) -> dict[str, Tensor]:
        super().reveal(genes)
        return {"hidden": genes.sum(-1).double()}


def generation(**options: object) -> Generation:
    defaults = {"space": NASBench201(), "fitness": Convolutions(), "sampler": RandomSearch(), "evaluations": 40}
    made = Generation(**{**defaults, **options})  # type: ignore[arg-type]
    made.setup(None, "cpu")
    return made


class Doubtful(Fitness):
    """Grows with the genes but for one lucky cell, and says how far each score may be off."""

    name = "doubtful"

    def score(self, genes: torch.Tensor) -> torch.Tensor:
        return genes.double().sum(-1) + 30 * self._lucky(genes)

    def standard_error(self, genes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return torch.where(self._lucky(genes), 30.0, 0.5).double()

    def _lucky(self, genes: torch.Tensor) -> torch.Tensor:
        return genes.sum(-1) == 9


def test_where_errors_are_declared_the_report_chooses_by_posterior_mean(tmp_path: Path) -> None:
    made = generation(fitness=Doubtful(), sampler=RandomSearch(), seeds=(4, 5), top_k=3, evaluations=60)
    state = made.run(tmp_path)
    report = made.report(state)
    assert state.archive.fitness.max() == 39
    means = [candidate.scores["posterior mean"] for candidate in report.candidates]
    assert means == sorted(means, reverse=True)
    assert report.candidates[0].fitness < 30
    assert report.candidates[0].fitness > 15


def test_the_report_holds_the_best_distinct_architectures_of_all_runs(tmp_path: Path) -> None:
    made = generation(seeds=(4, 5, 6), top_k=7)
    state = made.run(tmp_path)
    report = made.report(state)
    space, archive = made.space, state.archive
    everything = {}
    for run in range(3):
        for place in range(40):
            key, value = int(archive.keys[run, place]), float(archive.fitness[run, place])
            if value > -torch.inf:
                everything[key] = max(everything.get(key, -1.0), value)
    best = sorted(everything.values(), reverse=True)[:7]
    assert [c.fitness for c in report.candidates] == best
    assert len({int(space.identity(torch.tensor(c.genes))) for c in report.candidates}) == 7
    for candidate in report.candidates:
        row = candidate.seed - 4
        assert archive.genes[row, candidate.evaluation - 1].tolist() == candidate.genes
        assert candidate.scores == {"hidden": float(sum(candidate.genes))}
        assert space.describe(torch.tensor(candidate.genes)) == candidate.architecture
    assert report.counts["distinct_evaluations"] == 120


@pytest.mark.slow
def test_violators_are_never_reported_and_never_scored(tmp_path: Path) -> None:
    made = generation(limits=Limits(max_params=200_000), evaluations=60)
    report = made.report(made.run(tmp_path))
    assert all(c.costs["params"] <= 200_000 for c in report.candidates)
    impossible = generation(limits=Limits(max_params=10.0))
    state = impossible.run(tmp_path / "other")
    with pytest.raises(ValueError, match="no feasible architecture"):
        impossible.report(state)


def test_test_metrics_are_sealed_while_generating(tmp_path: Path) -> None:
    class Peeking(Convolutions):
        def score(self, genes: Tensor) -> Tensor:
            return self.reveal(genes)["hidden"]

    with pytest.raises(RuntimeError, match="while generation is under way"):
        generation(fitness=Peeking()).run(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "few", "many"),
    [
        ({"sampler": RandomSearch()}, 40, 61),
        ({"sampler": RegularisedEvolution(population=7, tournament=3)}, 30, 55),
        ({"sampler": ArchiveDiffusion()}, 25, 44),
        ({"sampler": RandomSearch(), "limits": Limits(max_params=300_000)}, 10, 18),
        ({"sampler": ParetoDiffusion(), "objective": "params"}, 20, 33),
    ],
    ids=["random", "evolution", "diffusion", "limited", "front"],
)
def test_an_ended_generation_extended_equals_a_longer_one(options: dict, few: int, many: int, tmp_path: Path) -> None:
    class Counted(Convolutions):
        scored = 0

        def score(self, genes: Tensor) -> Tensor:
            Counted.scored += len(genes)
            return super().score(genes)

    first = generation(**options, fitness=Counted(), evaluations=few, seeds=(1, 2))
    first.run(tmp_path / "run")
    paid = Counted.scored
    longer = generation(**options, fitness=Counted(), evaluations=many, seeds=(1, 2))
    extended = longer.run(tmp_path / "run")
    whole_generation = generation(**options, evaluations=many, seeds=(1, 2))
    whole = whole_generation.run(tmp_path / "whole")
    for name, value in whole.archive.state_dict().items():
        assert torch.equal(value, extended.archive.state_dict()[name])
    assert str(longer.history) == str(whole_generation.history)  # NaN differs from itself
    assert longer.report(extended) == whole_generation.report(whole)
    keys = torch.unique(
        whole_generation.space.identity(whole.archive.genes[whole.archive.filled & ~whole.archive.violates])
    )
    assert paid < Counted.scored == len(keys)  # nothing was paid twice
    with pytest.raises(ValueError, match="own config or more evaluations"):
        generation(**options, evaluations=few, seeds=(1, 2)).run(tmp_path / "run")


@pytest.mark.parametrize("how", [Stopped(15), KeyboardInterrupt()], ids=["SIGTERM", "Ctrl-C"])
def test_the_finished_round_is_saved_when_a_signal_ends_the_next(how: BaseException, tmp_path: Path) -> None:
    class Interrupted(Convolutions):
        _armed = False

        def score(self, genes: Tensor) -> Tensor:
            if self._armed and self.evaluations >= 20:
                raise how
            return super().score(genes)

    sampler, armed = RegularisedEvolution(population=7, tournament=3), Interrupted()
    armed._armed = True
    with pytest.raises(type(how)):
        generation(sampler=sampler, fitness=armed, save_seconds=1e9).run(tmp_path / "run")
    assert load_state(tmp_path / "run/state.pt")["history"][-1]["evaluations"] == 20
    resumed, whole = (generation(sampler=sampler, fitness=Interrupted(), save_seconds=1e9) for _ in range(2))
    ours, theirs = resumed.run(tmp_path / "run"), whole.run(tmp_path / "whole")
    assert torch.equal(ours.archive.genes, theirs.archive.genes)
    assert repr(resumed.history) == repr(whole.history)  # a NaN, the mean of no feasible one, equals itself here


def test_a_state_of_another_plan_is_refused(tmp_path: Path) -> None:
    generation().run(tmp_path)
    others = ({"seeds": (1,)}, {"evaluations": 39}, {"sampler": RandomSearch(3)}, {"limits": Limits(max_params=1e6)})
    for options in others:
        with pytest.raises(ValueError, match="the saved state is of"):
            generation(**options).run(tmp_path)


def test_a_sampler_without_an_end_needs_a_budget() -> None:
    with pytest.raises(ValueError, match="--evaluations"):
        generation(evaluations=None)


def test_the_estimate_scores_a_few_and_multiplies() -> None:
    text = estimate(generation(), None)
    assert "at most 40 distinct" in text
    assert "3x3 convolutions" in text


def test_generate_through_the_trainer(tmp_path: Path) -> None:
    trainer = Trainer(
        default_root_dir=tmp_path,
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    report = trainer.generate(
        space=NASBench201(), fitness=Convolutions(), sampler=RegularisedEvolution(), runs=3, evaluations=50
    )
    assert isinstance(report, Report)
    assert Report.load(tmp_path) == report
    assert not any(isinstance(callback, GenerationCallback) for callback in trainer.callbacks)


def test_the_callback_generates_when_a_fit_has_ended(tmp_path: Path) -> None:
    class Line(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return self.layer(batch[0]).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    callback = GenerationCallback(Generation(NASBench201(), Convolutions(), RandomSearch(), evaluations=20))
    trainer = Trainer(
        default_root_dir=tmp_path, logger=False, accelerator="cpu", max_epochs=1, callbacks=[callback],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 1)))
    trainer.fit(Line(), data)
    assert Report.load(tmp_path).candidates


def test_search_on_the_table_selects_by_validation_and_then_shows_test(tmp_path: Path, nasbench201: dict) -> None:
    fitness = BenchmarkFitness(str(TABLES / "nasbench201.npz"), "cifar10")
    made = generation(fitness=fitness, sampler=RegularisedEvolution(), evaluations=200, seeds=(0, 1, 2))
    best = made.report(made.run(tmp_path)).candidates[0]
    row = next(i for i, ops in enumerate(nasbench201["ops"].tolist()) if ops == best.genes)
    assert best.fitness == pytest.approx(float(nasbench201["cifar10/valid/200"][row]), abs=1e-4)
    assert best.scores["cifar10/test/200"] == pytest.approx(float(nasbench201["cifar10/test/200"][row]), abs=1e-4)
    assert best.fitness > 91.0


@pytest.mark.slow
def test_a_front_that_was_interrupted_goes_on_to_the_same_report(tmp_path: Path) -> None:
    class InterruptionError(Exception):
        pass

    class Scattered(Fitness):
        name = "scattered"

        def score(self, genes: Tensor) -> Tensor:
            return (self.space.identity(genes) * 3_079 % 619).double()

    def front(folder: Path, stop_at: float | None = None) -> Report:
        generation = Generation(
            NASBench201(),
            Scattered(),
            ParetoDiffusion(initial=6, pool=24),
            seeds=(0, 1),
            evaluations=40,
            cost_model=CostModel(network={"channels": 4, "cells": 1}),
            objective="params",
            save_seconds=0,
        )
        generation.setup(None, "cpu")

        def observe(row: dict[str, float]) -> None:
            if stop_at is not None and row["evaluations"] >= stop_at:
                raise InterruptionError

        return generation.report(generation.run(folder, observe))

    folders = [tmp_path / name for name in ("whole", "parts")]
    for folder in folders:
        folder.mkdir()
    whole = front(folders[0])
    for stop_at in (10, 30):
        with pytest.raises(InterruptionError):
            front(folders[1], stop_at)
    assert front(folders[1]) == whole
    assert whole.front is not None
    costs = [one.costs["params"] for one in whole.candidates]
    assert costs == sorted(costs, reverse=True)  # fittest first: along a front, cheaper is less fit
    assert len(set(costs)) == len(costs) > 2
    assert all(row["hypervolume"] > 0 for row in whole.front["hypervolumes"])


def test_a_report_says_what_knowledge_is_worth_and_whose_was_left_out(tmp_path: Path) -> None:
    made = generation(fitness=KnowledgeFitness(exclude=["cifar10"]), evaluations=60, top_k=2)
    made.report(made.run(tmp_path)).save(tmp_path / "report.json")
    report = Report.load(tmp_path / "report.json")
    assert report.fitness == "expected score"
    assert len(report.notes) == 4
    assert report.notes[0].startswith("score: standard deviations above a random architecture")
    assert "nasbench201/cifar100, nasbench201/imagenet16-120; left out" in report.notes[1]
    assert all(set(candidate.scores) == {"disagreement"} for candidate in report.candidates)
    for note in report.notes:
        assert note in report_table(report)


def test_the_estimate_is_of_what_a_run_takes(tmp_path: Path) -> None:
    """The sampler's work dwarfs a fitness that is counted in microseconds, and limits are counted for every proposal."""
    for options in ({"sampler": ArchiveDiffusion(), "evaluations": 150}, {"limits": Limits(max_params=9e5)}):
        text = estimate(generation(**options), None)
        begun = time.perf_counter()
        generation(**options).run(tmp_path / str(len(options)))
        took = time.perf_counter() - begun
        number, unit = re.search(r"about ([\d.]+) (ms|s|min) in all", text).groups()
        told = float(number) * {"ms": 0.001, "s": 1, "min": 60}[unit]
        assert took / 10 < told < 10 * took, (told, took)  # it was wrong by orders of magnitude


def test_other_images_or_ways_to_read_them_are_no_resumption(tmp_path: Path) -> None:
    from ednag.data import ImageFolder
    from tests.cli.test_killed import folder_of_images

    images = folder_of_images(tmp_path / "images")

    def go(root: Path = images, **options: object) -> None:
        fitness = ZeroCostFitness(["naswot"], network={"channels": 4, "cells": 1})
        generation = Generation(NASBench201(), fitness, RandomSearch(), evaluations=4, top_k=1)
        generation.setup(ImageFolder(root, **{"image_size": 8, "batch_size": 8, **options}), "cpu")
        generation.run(tmp_path)

    go()
    go(images.rename(tmp_path / "moved"))  # where they are doesn't matter
    (tmp_path / "moved").rename(images)
    with pytest.raises(ValueError, match=r"are not those that this run was begun with \(different: .*test_frac"):
        go(test_fraction=0.3)
    image = images / "class0" / "03.png"
    content = image.read_bytes()
    image.write_bytes((images / "class1" / "03.png").read_bytes())
    with pytest.raises(ValueError, match=r"different: .*content (train|val|test).*--data.root"):
        go()
    image.write_bytes(content)
    go()


def test_a_state_of_another_version_is_refused_in_one_sentence(tmp_path: Path) -> None:
    def go() -> None:
        generation = Generation(NASBench201(), ZeroCostFitness(["params"]), RandomSearch(), evaluations=4)
        generation.setup(None, "cpu")
        generation.run(tmp_path)

    go()
    state = load_state(tmp_path / "state.pt")
    for part in ("screening", "costs"):
        save_state(
            tmp_path / "state.pt", {**state, "fitness": {k: v for k, v in state["fitness"].items() if k != part}}
        )
        with pytest.raises(
            ValueError, match=rf"state.pt is damaged or not a saved state of this version .*no '{part}'"
        ):
            go()
    save_state(tmp_path / "state.pt", {**state, "plan": "of an earlier version"})
    with pytest.raises(ValueError, match="or of another version of EDNAG"):
        go()


@pytest.mark.parametrize("told", ["soon", "nan", "inf", "-1", ""])
def test_a_time_between_states_that_never_comes_is_refused(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ednag.generation.run import _save_seconds

    monkeypatch.setenv("EDNAG_SAVE_SECONDS", told)
    with pytest.raises(ValueError, match="EDNAG_SAVE_SECONDS must be a number of seconds"):
        _save_seconds()
