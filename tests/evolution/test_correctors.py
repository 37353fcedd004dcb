import itertools
import math

import pytest
import torch

from ednag.core.archive import INFEASIBLE
from ednag.evolution.correctors import Corrector, roulette_keys, squash


def members(seed: int, m: int = 20, d: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, m, d, generator=generator)
    fitness = torch.rand(1, m, generator=generator, dtype=torch.float64) * 50 + 40
    return x, fitness, torch.rand(1, m, generator=generator)


def test_quotas_are_filled_by_fitness_then_distance_then_chance() -> None:
    x, fitness, u = members(0)
    keep = Corrector(0.2, 0.3)(x, fitness, 10, u)[0].tolist()
    assert len(set(keep)) == 10
    best = fitness[0].argsort(descending=True).tolist()
    assert keep[:2] == best[:2]
    spread = [sum(math.dist(a, b) for b in x[0].tolist()) for a in x[0].tolist()]
    low, enough = 0.0, 0.1 * float(fitness.max())
    rest = [i for i in range(20) if i not in keep[:2] and fitness[0, i] - low >= enough]
    assert keep[2:5] == sorted(rest, key=lambda i: -spread[i])[:3]


def test_elites_are_distinct_in_fitness() -> None:
    x, _, u = members(1, m=6)
    fitness = torch.tensor([[9.0, 9.0, 9.0, 8.0, 7.0, 1.0]], dtype=torch.float64)
    keep = Corrector(1.0, 0.0)(x, fitness, 3, u)[0].tolist()
    assert fitness[0, keep].tolist() == [9.0, 8.0, 7.0]


def test_unfit_members_enter_the_diversity_quota_last() -> None:
    x, fitness, u = members(2, m=8)
    x[0, 3] = 100.0  # by far the most distant
    fitness[0, 3] = 1.0
    assert 3 not in Corrector(0.0, 1.0)(x, fitness, 7, u)[0].tolist()


def test_squash_keeps_feasible_values_and_the_order_of_the_rest() -> None:
    fitness = torch.tensor([[3.0, -torch.inf, 5.0, 2 * INFEASIBLE, 1.5 * INFEASIBLE]], dtype=torch.float64)
    out = squash(fitness)
    assert out[0, [0, 2]].tolist() == [3.0, 5.0]
    assert out.isfinite().all()
    assert out[0].argsort().tolist() == [1, 3, 4, 0, 2]
    assert out.min() > -10


def test_roulette_draws_without_replacement_in_the_wheel_s_distribution() -> None:
    """Against the exact probability of every ordered pair, by enumeration."""
    value = torch.tensor([[1.0, 2.0, 3.0, 6.0]], dtype=torch.float64)
    spread = torch.tensor([[0.0, 1.0, 0.5, 0.2]], dtype=torch.float64)
    raw = (value * (1 + spread))[0]
    weight = (0.1 + 0.9 * (raw - raw.min()) / (raw.max() - raw.min())).tolist()
    n = 200_000
    u = torch.rand(n, 4, generator=torch.Generator().manual_seed(0))
    drawn = roulette_keys(value.expand(n, -1), spread.expand(n, -1), u).topk(2, -1).indices
    total = sum(weight)
    for i, j in itertools.permutations(range(4), 2):
        exact = weight[i] / total * weight[j] / (total - weight[i])
        seen = ((drawn[:, 0] == i) & (drawn[:, 1] == j)).double().mean().item()
        assert seen == pytest.approx(exact, abs=4 * math.sqrt(exact / n) + 1e-4)


def test_a_batch_selects_as_its_rows_do_alone() -> None:
    rows = [members(seed) for seed in range(5)]
    batch = [torch.cat(parts) for parts in zip(*rows, strict=True)]
    together = Corrector()(batch[0], batch[1], 10, batch[2])
    for i, (x, fitness, u) in enumerate(rows):
        assert torch.equal(together[i : i + 1], Corrector()(x, fitness, 10, u))


@pytest.mark.parametrize("arguments", [(-0.1, 0.2, 0.1), (0.6, 0.6, 0.1), (0.1, 0.2, 2.0)])
def test_bad_arguments_are_refused(arguments: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="got"):
        Corrector(*arguments)
