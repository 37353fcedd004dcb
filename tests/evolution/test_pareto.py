"""Against plain loops over members and numerical integration."""

import math

import pytest
import torch
from torch import Tensor

from ednag.evolution.pareto import best_upto, expected_gain, gap_to_front, non_dominated
from ednag.generation.metrics import hypervolume


def points(seed: int, batch: int = 4, m: int = 30, levels: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    """Costs and fitness with many ties, and a mask."""
    generator = torch.Generator().manual_seed(seed)
    cost, fitness = torch.randint(0, levels, (2, batch, m), generator=generator).double()
    return cost, fitness, torch.rand((batch, m), generator=generator) < 0.8


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] >= b[1] and a != b


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_nothing_dominates(seed: int) -> None:
    cost, fitness, member = points(seed)
    found = non_dominated(cost, fitness, member)
    for run in range(len(cost)):
        pairs = list(zip(cost[run].tolist(), fitness[run].tolist(), strict=True))
        alive = [pair for pair, m in zip(pairs, member[run].tolist(), strict=True) if m]
        for pair, m, one in zip(pairs, member[run].tolist(), found[run].tolist(), strict=True):
            assert one == (m and not any(dominates(other, pair) for other in alive))


def test_the_front_agrees_with_pymoo() -> None:
    sorting = pytest.importorskip("pymoo.util.nds.non_dominated_sorting").NonDominatedSorting()
    cost, fitness, _ = points(7, batch=1, m=200, levels=50)
    first = sorting.do(torch.stack([cost[0], -fitness[0]], 1).numpy())[0]
    found = non_dominated(cost, fitness, torch.ones_like(cost, dtype=torch.bool))[0].nonzero().flatten()
    assert sorted(first.tolist()) == found.tolist()


def test_gaps_are_to_the_best_that_costs_no_more() -> None:
    cost, fitness, member = points(11)
    gap = gap_to_front(cost, fitness, member)
    strict = best_upto(cost, fitness, member, cost, strictly=True)
    for run, place in member.nonzero().tolist():
        no_dearer = fitness[run][member[run] & (cost[run] <= cost[run, place])]
        cheaper = fitness[run][member[run] & (cost[run] < cost[run, place])]
        assert gap[run, place] == no_dearer.max() - fitness[run, place]
        assert strict[run, place] == (cheaper.max() if len(cheaper) else -torch.inf)
    assert (gap[~member] == 0).all()
    assert ((gap == 0) | ~non_dominated(cost, fitness, member)).all()


@pytest.mark.parametrize("deviation", [0.05, 1.0, 4.0])
def test_the_expected_gain_is_the_integral_of_what_is_gained(deviation: float) -> None:
    cost, fitness, member = points(3, batch=2, m=12)
    asked = torch.tensor([[0.0, 2.5, 4.0, 8.9, 12.0], [-1.0, 1.5, 6.5, 7.0, 9.0]]).double()
    mean = torch.tensor([[3.0, 5.0, 8.0, 9.5, 9.0], [0.0, 4.0, 7.5, 9.0, 8.0]]).double()
    limit, floor = torch.tensor([9.0, 10.0]).double(), torch.tensor([0.0, -1.0]).double()
    found = expected_gain(mean, torch.full_like(mean, deviation), asked, (cost, fitness, member), (limit, floor))
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    weight = (-grid.square() / 2).exp() / math.sqrt(2 * math.pi)
    for run in range(2):
        before = hypervolume(cost[run], fitness[run], member[run], limit[run], floor[run])
        for place in range(5):
            y = mean[run, place] + deviation * grid
            more_cost = torch.cat([cost[run].expand(len(y), -1), asked[run, place].expand(len(y), 1)], 1)
            more_fitness = torch.cat([fitness[run].expand(len(y), -1), y[:, None]], 1)
            more = torch.cat([member[run], torch.tensor([True])]).expand(len(y), -1)
            gained = hypervolume(more_cost, more_fitness, more, limit[run], floor[run]) - before
            assert found[run, place].item() == pytest.approx(
                float(torch.trapezoid(gained * weight, grid)), abs=2e-3 * deviation, rel=1e-3
            )


def test_a_run_gains_the_same_alone_and_beside_longer_ones() -> None:
    cost, fitness, member = points(5, batch=3, m=40)
    member[0, 10:] = False
    mean, asked = torch.rand((2, 3, 6), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 9
    reference = (torch.full((3,), 9.0).double(), torch.zeros(3).double())
    all_runs = expected_gain(mean, torch.ones_like(mean), asked, (cost, fitness, member), reference)
    alone = expected_gain(
        mean[:1],
        torch.ones_like(mean[:1]),
        asked[:1],
        (cost[:1, :10], fitness[:1, :10], member[:1, :10]),
        (reference[0][:1], reference[1][:1]),
    )
    torch.testing.assert_close(alone, all_runs[:1], rtol=1e-12, atol=1e-12)
