import pytest
import torch

from ednag.core.archive import Archive
from ednag.generation.metrics import (
    best_so_far,
    front_places,
    hypervolume,
    success_rate,
    unique_rate,
)


def archive() -> Archive:
    return Archive(
        keys=torch.tensor([[4, 7, 9, -1], [9, 2, -1, -1]]),
        genes=torch.zeros(2, 4, 1, dtype=torch.int64),
        fitness=torch.tensor([[1.0, 3.0, 2.0, -torch.inf], [5.0, 4.0, -torch.inf, -torch.inf]]).double(),
        count=torch.tensor([3, 2]),
        lookups=torch.tensor([3, 9]),
    )


def test_best_so_far_rises_and_holds() -> None:
    assert best_so_far(archive()).tolist() == [[1.0, 3.0, 3.0], [5.0, 5.0, 5.0]]
    assert best_so_far(archive(), 6).tolist() == [[1.0] + [3.0] * 5, [5.0] * 6]


def test_success_counts_runs_within_the_budget() -> None:
    nine = torch.tensor([9])
    assert [success_rate(archive(), nine, n) for n in (1, 2, 3)] == [0.5, 0.5, 1.0]
    assert success_rate(archive(), torch.tensor([-1]), 4) == 0.0  # padding is no architecture
    assert success_rate(archive(), torch.tensor([2, 7]), 2) == 1.0


def test_unique_rate_agrees_with_counting() -> None:
    keys = torch.tensor([[1, 1, 2, 3], [5, 5, 5, 5]])
    assert unique_rate(keys).tolist() == [0.75, 0.25]


def clouds(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    cost, fitness = torch.rand((2, 6, 25), generator=generator, dtype=torch.float64) * 10
    return cost, fitness, torch.rand((6, 25), generator=generator) < 0.7


@pytest.mark.parametrize("reference", [(10.0, 0.0), (6.0, 4.0), (12.0, -3.0), (0.1, 9.9)])
def test_hypervolume_agrees_with_pymoo(reference: tuple[float, float]) -> None:
    pymoo = pytest.importorskip("pymoo.indicators.hv")
    cost, fitness, member = clouds(0)
    found = hypervolume(cost, fitness, member, *reference)
    indicator = pymoo.HV(ref_point=[reference[0], -reference[1]])
    for run in range(6):
        pairs = torch.stack([cost[run], -fitness[run]], 1)[member[run]]
        assert found[run].item() == pytest.approx(float(indicator(pairs.numpy())), abs=1e-9)


def test_hypervolume_is_the_area_of_the_union_of_rectangles() -> None:
    generator = torch.Generator().manual_seed(1)
    cost, fitness = torch.randint(0, 12, (2, 3, 8), generator=generator).double()  # with ties
    member = torch.ones(3, 8, dtype=torch.bool)
    limit, floor = torch.tensor([12.0, 9.0, 5.0]).double(), torch.tensor([0.0, 3.0, 0.0]).double()
    squares = [
        sum(
            any(c <= x and f > y for c, f in zip(cost[run].tolist(), fitness[run].tolist(), strict=True))
            for x in range(int(limit[run]))
            for y in range(int(floor[run]), 12)
        )
        for run in range(3)
    ]
    assert hypervolume(cost, fitness, member, limit, floor).tolist() == squares
    assert hypervolume(cost, fitness, ~member, limit, floor).tolist() == [0.0] * 3


def test_the_front_of_all_runs_is_joint_and_names_each_architecture_once() -> None:
    made = archive()  # fitness 1, 3, 2 and 5, 4
    made.genes[..., 0] = torch.tensor([[4, 7, 9, 0], [9, 2, 0, 0]])
    cost = torch.tensor([[1.0, 2.0, 3.0, 0.0], [9.0, 2.5, 0.0, 0.0]]).double()
    assert front_places(made, cost).tolist() == [[1, 0], [1, 1], [0, 1], [0, 0]]
    cost[0, 2] = torch.inf  # violates a limit
    cost[1, 0] = 2.0
    assert front_places(made, cost).tolist() == [[1, 0], [0, 0]]
    made.fitness[0, 2], cost[0, 2] = 5.0, 2.0  # the same architecture, found later by another run
    assert front_places(made, cost).tolist() == [[1, 0], [0, 0]]
