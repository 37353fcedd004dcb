import csv
import json
from pathlib import Path

import pytest
import torch
from scipy.stats import wilcoxon

from ednag.fitness import BenchmarkFitness
from ednag.generation.comparison import Comparison, Outcome, holm, mean_regret, signed_rank
from ednag.generation.metrics import success_rate
from ednag.samplers import LocalSearch, RandomSearch, Sampler
from ednag.spaces import NASBench201, TransNAS101Micro
from ednag.spaces.base import gene_strings
from tests.conftest import TABLES

RUNS = 20


def outcome(best: list[list[float]]) -> Outcome:
    runs = len(best)
    zeros = torch.zeros(runs, dtype=torch.int64)
    return Outcome("x", torch.tensor(best).double(), torch.full((runs,), torch.nan), {}, zeros, zeros, 1.0)


def test_holm_agrees_with_a_worked_example() -> None:
    """Sorted .01, .02, .03, .04 times 4, 3, 2, 1, never falling: .04, .06, .06, .06."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_signed_rank_is_scipy_s_and_one_for_equal_samples() -> None:
    a, b = torch.tensor([1.0, 2.0, 3.0, 5.0, 9.0]), torch.tensor([2.0, 2.5, 1.0, 7.0, 12.0])
    assert signed_rank(a, b) == pytest.approx(float(wilcoxon(a.numpy(), b.numpy()).pvalue))
    assert signed_rank(a, a) == 1.0


def test_mean_regret_counts_failures_as_the_worst_success() -> None:
    got = mean_regret(outcome([[-torch.inf, 4.0, 5.0], [3.0, 3.0, 6.0]]), 6.0, 3.0)
    assert got.tolist() == pytest.approx([(3 + 2 + 1) / 3, (3 + 3 + 0) / 3])


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path, list[dict]]:
    fitness = BenchmarkFitness(str(TABLES / "nasbench201.npz"), "cifar100")
    samplers: dict[str, Sampler] = {"local search": LocalSearch(), "random": RandomSearch()}
    comparison = Comparison(NASBench201(), fitness, samplers, range(RUNS), 60, [20, 60, 500], together=5)
    folder = tmp_path_factory.mktemp("comparison")
    return comparison, folder, comparison.save(folder, comparison.run(folder))


def test_rows_agree_with_plain_counting(compared: tuple[Comparison, Path, list[dict]], nasbench201: dict) -> None:
    comparison, _, rows = compared
    valid, test = nasbench201["cifar100/valid/200"], nasbench201["cifar100/test/200"]
    row_of = {tuple(ops): i for i, ops in enumerate(nasbench201["ops"].tolist())}
    best_class = nasbench201["unique_id"][valid.argmax()]
    fitness = comparison.fitness
    fitness.setup(NASBench201())
    for row, sampler in zip(rows, (LocalSearch(), RandomSearch()), strict=True):
        archive = sampler.sample(NASBench201(), fitness, range(RUNS), 60).archive
        hits, regrets, selected = 0, [], []
        for run in range(RUNS):
            indices = [row_of[tuple(genes)] for genes in archive.genes[run, :60].tolist()]
            hits += any(nasbench201["unique_id"][i] == best_class for i in indices[:20])
            regrets.append(float(valid.max()) - max(float(valid[i]) for i in indices))
            selected.append(float(test[max(indices, key=lambda i: valid[i])]))
        assert row["success@20"] == pytest.approx(hits / RUNS)
        assert row["regret@60"] == pytest.approx(sum(regrets) / RUNS, abs=1e-4)
        assert row["cifar100/test/200 mean"] == pytest.approx(sum(selected) / RUNS, abs=1e-3)
        assert row["evaluations"] == 60
    assert rows[0]["mean_regret"] < rows[1]["mean_regret"]
    assert rows[0]["p_value"] is None
    assert 0 <= rows[1]["p_value"] < 0.05
    assert "success@500" not in rows[0]  # beyond the budget


def test_a_worse_twin_of_the_optimum_is_a_success_by_class_and_none_by_value(tmp_path: Path) -> None:
    """The best cell for room layout has an isomorphic one that the benchmark trained to a far worse loss."""
    space = TransNAS101Micro()
    fitness = BenchmarkFitness(str(TABLES / "transnas101_micro.npz"), "room_layout")
    fitness.setup(space)
    genes = gene_strings(space.cardinalities)
    values = fitness(genes, torch.ones(len(genes), dtype=torch.bool))
    twins = genes[torch.isin(space.identity(genes), fitness.optimum_keys())]
    assert sorted(fitness(twins, torch.ones(len(twins), dtype=torch.bool)) == values.max()) == [False, True]
    comparison = Comparison(space, fitness, {"random": RandomSearch()}, range(40), 800, together=40)
    outcome = comparison.run(tmp_path)[0]
    reached = outcome.best >= values.max()
    assert torch.equal(outcome.first_value.isfinite(), reached.any(1))
    assert torch.equal(outcome.first_value[reached.any(1)], reached.int().argmax(1)[reached.any(1)].double() + 1)
    assert 0 < int(reached.any(1).sum()) < 40
    sampled = RandomSearch().sample(space, fitness, range(40), 800)
    for at in (200, 800):
        row = comparison.rows([outcome])[0] | {"at": at}
        by_class = success_rate(sampled.archive, fitness.optimum_keys(), at)
        assert float((outcome.first_hit <= at).double().mean()) == by_class
        assert row.get(f"success@{at}", by_class) == by_class
        assert row.get(f"value@{at}", 0) <= by_class
    assert int(outcome.first_value.isfinite().sum()) < int(outcome.first_hit.isfinite().sum())


def test_files_tell_the_same(compared: tuple[Comparison, Path, list[dict]]) -> None:
    _, folder, rows = compared
    assert json.loads((folder / "comparison.json").read_text())["rows"] == rows
    lines = list(csv.DictReader((folder / "curves.csv").open()))
    assert len(lines) == 2 * 60
    assert float(lines[59]["success"]) == rows[0]["success@60"]
    assert (folder / "comparison.png").read_bytes()[:4] == b"\x89PNG"


def test_what_is_done_is_not_run_again(
    compared: tuple[Comparison, Path, list[dict]], monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison, folder, rows = compared

    def refuse(*_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("nothing is to be evaluated")

    monkeypatch.setattr(BenchmarkFitness, "__call__", refuse)
    again = comparison.rows(comparison.run(folder))
    assert again == rows


@pytest.mark.parametrize("change", [{"samplers": {}}, {"evaluations": 0}, {"checkpoints": [0]}, {"together": 0}])
def test_bad_arguments_are_refused(change: dict, compared: tuple[Comparison, Path, list[dict]]) -> None:
    made = compared[0]
    options = {"samplers": made.samplers, "seeds": range(2), "evaluations": 5, **change}
    with pytest.raises(ValueError, match=r"got|at least one"):
        Comparison(made.space, made.fitness, **options)


@pytest.mark.parametrize("name", ["../escaped", "a/b", "", "..", ".hidden", "/absolute"])
def test_a_name_that_is_no_folder_of_the_run_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a sampler's name is a folder of the run"):
        Comparison(
            NASBench201(),
            BenchmarkFitness(str(TABLES / "transnas101_micro.npz"), "room_layout"),
            {name: RandomSearch()},
            range(2),
            5,
        )
