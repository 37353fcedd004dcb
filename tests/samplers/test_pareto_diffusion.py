import pytest
import torch
from torch import Tensor

from ednag.core.archive import INFEASIBLE
from ednag.costs.latency_tables import LatencyTable
from ednag.fitness import BenchmarkFitness
from ednag.generation.metrics import hypervolume
from ednag.samplers import ParetoDiffusion, Problem, RandomSearch, Sampler
from ednag.testing import SPACE, SamplerChecks, closeness
from tests.conftest import TABLES

OPERATIONS = torch.tensor([0.0, 1.0, 4.0, 9.0, 2.0]).double()


class Sum:
    """Cost of a cell: a sum over its operations, and of where they stand."""

    def __init__(self, quick: bool = True, limit: float = torch.inf) -> None:
        self.quick, self.limit, self.asked = quick, limit, 0

    def __call__(self, genes: Tensor) -> Tensor:
        self.asked += len(genes)
        cost = (OPERATIONS[genes] * torch.arange(1, 7)).sum(-1)
        return cost.where(cost <= self.limit, torch.inf)


def sampler(**options: object) -> ParetoDiffusion:
    return ParetoDiffusion(**{"initial": 6, "pool": 32, **options})  # type: ignore[arg-type]


def problem(cost: Sum | None = None) -> Problem:
    return Problem(SPACE, "genes", cost=cost or Sum())


class TestParetoDiffusion(SamplerChecks):
    budget = 60

    def make(self) -> Sampler:
        return sampler()

    def problem(self) -> Problem:
        return problem()


def test_slow_costs_are_asked_for_a_shortlist_only_and_runs_stay_the_same_alone() -> None:
    slow = Sum(quick=False)
    together = sampler(shortlist=6).sample(problem(slow), closeness, [0, 1, 2], 50)
    known = 3 * sum(range(6, 51, 2))  # members, asked for again each round (a real cost remembers them)
    assert slow.asked <= known + 3 * 6 * 22
    alone = sampler(shortlist=6).sample(problem(Sum(quick=False)), closeness, [1], 50)
    assert torch.equal(together.archive.keys[1], alone.archive.keys[0])


@pytest.mark.parametrize("partial", [True, False])
def test_what_a_partial_fitness_does_not_know_is_no_member(partial: bool) -> None:
    def gappy(genes: Tensor, valid: Tensor) -> Tensor:
        return closeness(genes, valid).where(genes[..., 0] > 1, -torch.inf)

    gappy.partial = partial  # type: ignore[attr-defined]
    made = sampler()
    state = made.sample(problem(), gappy, [0, 1], 40)
    known = (state.archive.fitness > -torch.inf).sum(1)
    assert 0 < int(known.max()) < 40
    assert torch.equal(made._members(state).real.sum(1), known if partial else state.archive.count)


def test_what_violates_a_limit_is_not_proposed_after_the_start() -> None:
    cost = Sum(limit=40.0)

    def limited(genes: Tensor, valid: Tensor) -> Tensor:
        return closeness(genes, valid).where(cost(genes).isfinite(), 2 * INFEASIBLE)

    limited.violates = lambda genes, valid: cost(genes).isinf() & valid  # type: ignore[attr-defined]
    state = sampler().sample(problem(cost), limited, [0, 1], 60)
    late = state.archive.filled & (torch.arange(state.archive.keys.shape[1]) >= 40)
    assert state.archive.paid.tolist() == [60, 60]
    assert not (state.archive.violates & late).any()


def test_a_window_bounds_what_the_model_looks_at() -> None:
    made = sampler(window=20)
    state = made.sample(problem(), closeness, [0, 1], 70)
    members = made._members(state)
    assert members.genes.shape[1] == 20
    for run in range(2):
        kept = {tuple(row) for row in members.genes[run].tolist()}
        assert {tuple(row) for row in state.archive.genes[run, 60:70].tolist()} <= kept  # the latest half


def test_it_needs_a_cost() -> None:
    with pytest.raises(ValueError, match="--objective"):
        ParetoDiffusion().sample(SPACE, closeness, [0], 10)
    with pytest.raises(ValueError, match="optimism"):
        ParetoDiffusion(optimism=0)


@pytest.mark.parametrize("device", ["raspi4", "titan_rtx_256"])
def test_on_measured_latencies_it_dominates_random_search_of_twice_the_budget(device: str) -> None:
    table = LatencyTable(TABLES / "nasbench201_latency.npz")
    fitness = BenchmarkFitness(TABLES / "nasbench201.npz", "cifar10", 200)
    fitness.setup(SPACE)

    class Latency:
        quick = True

        def __call__(self, genes: Tensor) -> Tensor:
            return table.latency(genes, device)

    area = []
    for method, budget in ((ParetoDiffusion(), 60), (RandomSearch(), 120)):
        archive = method.sample(Problem(SPACE, "genes", cost=Latency()), fitness, range(6), budget).archive
        cost = Latency()(archive.genes)
        area.append(
            hypervolume(
                cost, archive.fitness, archive.filled, float(table.latency_ms[:, table.column(device)].max()), 10.0
            )
        )
    assert area[0].mean() > area[1].mean()
