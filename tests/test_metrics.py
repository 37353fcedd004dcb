import torch

from ednag.metrics import best_so_far, diversity, regret, success_rate, unique_rate
from ednag.population import Archive


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
    assert regret(archive(), 6.0, 2).tolist() == [[5.0, 3.0], [1.0, 1.0]]


def test_success_counts_runs_within_the_budget() -> None:
    nine = torch.tensor([9])
    assert [success_rate(archive(), nine, n) for n in (1, 2, 3)] == [0.5, 0.5, 1.0]
    assert success_rate(archive(), torch.tensor([-1]), 4) == 0.0  # padding is no architecture
    assert success_rate(archive(), torch.tensor([2, 7]), 2) == 1.0


def test_unique_rate_and_diversity_agree_with_counting() -> None:
    keys = torch.tensor([[1, 1, 2, 3], [5, 5, 5, 5]])
    assert unique_rate(keys).tolist() == [0.75, 0.25]
    genes = torch.tensor([[[0, 0], [0, 1], [1, 1]]])
    assert diversity(genes).item() == (0.5 + 1.0 + 0.5) / 3
    assert diversity(genes[:, :1]).item() == 0.0
