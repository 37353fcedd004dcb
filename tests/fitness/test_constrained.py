"""Constrained fitness: who ranks above whom, what is paid for, and what the costs are."""

import functools
import time
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from tests.conftest import TABLES
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from ednag.core.archive import INFEASIBLE, feasible
from ednag.core.storage import load_state, save_state
from ednag.costs.counting import Costs, count_costs
from ednag.costs.model import CostModel, Limits
from ednag.fitness.base import Fitness
from ednag.fitness.constrained import ConstrainedFitness
from ednag.spaces import NASBench201

SPACE = NASBench201()
SMALL = {"channels": 4, "cells": 1}
CELLS = torch.tensor([[0] * 6, [1] * 6, [2] * 6, [3] * 6, [3, 3, 3, 0, 0, 0], [1, 2, 2, 4, 0, 1]])
"""The fifth is three convolutions that nothing leaves: isomorphic to the first, and costlier."""


class SumOfGenes(Fitness):
    """Counts what it is asked; fails for the cell of six ones."""

    name = "sum"

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[int]] = []

    def score(self, genes: Tensor) -> Tensor:
        self.asked += genes.tolist()
        return torch.where((genes == 1).all(-1), torch.nan, genes.sum(-1).double())

    def reveal(self, genes: Tensor) -> dict[str, Tensor]:
        return {**super().reveal(genes), "test": genes.sum(-1)}


def constrained(limits: Limits, **options: object) -> ConstrainedFitness:
    out = ConstrainedFitness(SumOfGenes(), limits, CostModel(network=SMALL, **options))
    out.setup(SPACE)
    return out


def built_costs(genes: Tensor) -> Costs:
    return count_costs(SPACE.build(genes, 10, **SMALL), (3, 32, 32))


def everyone(genes: Tensor) -> Tensor:
    return torch.ones(genes.shape[:-1], dtype=torch.bool)


def test_violation_is_the_sum_of_relative_excesses() -> None:
    table = {"latency_table": TABLES / "nasbench201_latency.npz", "latency_device": "fpga"}
    rows = torch.tensor([[c.params, c.macs, c.latency_ms] for c in constrained(Limits(), **table).costs(CELLS)])
    most = rows.double().quantile(0.6, dim=0)
    fitness = constrained(Limits(*most.tolist()), **table)
    expected = (rows.double() / most - 1).clamp(min=0).sum(-1).tolist()
    assert min(expected) == 0 < max(expected)
    assert fitness.violation(CELLS, everyone(CELLS)).tolist() == pytest.approx(expected, rel=1e-6)
    assert not Limits().any
    assert constrained(Limits()).violation(CELLS, everyone(CELLS)).tolist() == [0] * 6


@pytest.mark.parametrize("value", [0, -3, float("nan")])
def test_limits_are_positive(value: float) -> None:
    with pytest.raises(ValueError, match="max_flops must be finite and greater than 0"):
        Limits(max_flops=value)


def test_costs_are_those_of_the_built_network() -> None:
    fitness = constrained(Limits(max_params=1))
    assert fitness.costs(CELLS) == [built_costs(genes) for genes in CELLS]
    assert fitness.costs(CELLS)[4].params > fitness.costs(CELLS)[0].params


def test_violators_rank_below_the_feasible_and_are_not_paid_for() -> None:
    costs = [built_costs(genes) for genes in CELLS]
    limit = costs[2].macs
    fitness = constrained(Limits(max_flops=limit))
    scores = fitness(CELLS, everyone(CELLS))
    within = torch.tensor([c.macs <= limit for c in costs])
    assert within.tolist() == [True, True, True, False, False, True]
    assert fitness.fitness.asked == CELLS[within].tolist()
    assert torch.equal(feasible(scores), within & (torch.arange(6) != 1)), "a failed score is not feasible"
    excess = torch.tensor([c.macs / limit - 1 for c in costs], dtype=torch.float64)
    assert torch.equal(scores[~within], INFEASIBLE * (1 + excess[~within]))
    assert scores[4] > scores[3], "less violation ranks higher"
    assert scores[within].tolist() == [0, -torch.inf, 12, 10]


class OwnCells(NASBench201):
    """Builds networks of its own, and remembers of what; the parent's closed form is not believed."""

    def __init__(self) -> None:
        self.built: list[list[int]] = []

    def build(self, genes: Tensor, num_classes: int, in_channels: int = 3, **options: int) -> torch.nn.Sequential:  # type: ignore[override]
        self.built.append(genes.tolist())
        return super().build(genes, num_classes, in_channels, **options)


def test_invalid_members_cost_nothing() -> None:
    space = OwnCells()
    fitness = ConstrainedFitness(SumOfGenes(), Limits(max_params=1), CostModel(network=SMALL))
    fitness.setup(space)
    built = space.built
    valid = torch.tensor([[True, False, True], [False, True, True]])
    genes = torch.stack([CELLS[:3], CELLS[[0, 0, 2]]])
    scores = fitness(genes, valid)
    assert built == [CELLS[0].tolist(), CELLS[2].tolist()]
    assert (scores[~valid] == -torch.inf).all()
    assert (scores[valid] < INFEASIBLE).all()
    fitness(genes, valid)
    assert len(built) == 2
    assert fitness(genes, torch.zeros_like(valid)).isneginf().all()


def test_without_limits_nothing_is_built() -> None:
    fitness = constrained(Limits())
    fitness.cost_model.counts = None
    assert fitness(CELLS, everyone(CELLS))[2] == 12


def test_the_rest_is_the_wrapped_fitness() -> None:
    fitness = constrained(Limits(max_flops=built_costs(CELLS[2]).macs))
    fitness(CELLS, everyone(CELLS))
    fitness(CELLS, everyone(CELLS))
    assert (fitness.name, fitness.lookups, fitness.evaluations) == ("sum", 8, 4)
    fitness.generating = True
    assert fitness.fitness.generating
    with pytest.raises(RuntimeError, match="under way"):
        fitness.reveal(CELLS)
    fitness.generating = False
    assert fitness.reveal(CELLS)["test"][3] == 18
    assert fitness.details(CELLS) == {}
    assert fitness.score(CELLS[2:3]).tolist() == [12]


def test_a_restored_fitness_pays_nothing_twice(tmp_path: Path) -> None:
    limits = Limits(max_flops=built_costs(CELLS[2]).macs)
    first = constrained(limits, latency_device="cpu", warmup=0, repeats=1)
    scores = first(CELLS, everyone(CELLS))
    costs = first.costs(CELLS)
    save_state(tmp_path / "state.pt", first.state_dict())
    second = constrained(limits, latency_device="cpu")
    second.load_state_dict(load_state(tmp_path / "state.pt"))
    second.cost_model._build = None
    assert torch.equal(second(CELLS, everyone(CELLS)), scores)
    assert second.fitness.asked == []
    assert second.costs(CELLS) == costs
    assert all(costs.latency_ms > 0 for costs in second.costs(CELLS))


def test_latency_is_measured_on_a_torch_device(monkeypatch: pytest.MonkeyPatch) -> None:
    build = NASBench201.build

    @functools.wraps(build)
    def slow(*args: object, **options: object) -> torch.nn.Module:
        out = build(*args, **options)
        out.register_forward_pre_hook(lambda *_: time.sleep(0.03))
        return out

    monkeypatch.setattr(NASBench201, "build", slow)
    fitness = constrained(Limits(max_latency_ms=15), latency_device="cpu", warmup=0, repeats=3)
    with torch.inference_mode():
        assert fitness(CELLS[:1], everyone(CELLS[:1])) < INFEASIBLE
    assert fitness.costs(CELLS[:1])[0].latency_ms >= 30


def test_latency_from_the_table() -> None:
    path = TABLES / "nasbench201_latency.npz"
    fitness = constrained(Limits(max_latency_ms=1e9), latency_table=path, latency_device="fpga")
    latencies = [costs.latency_ms for costs in fitness.costs(CELLS)]
    assert latencies[3] > latencies[0]
    with pytest.raises(ValueError, match="no device 'cpu'; it has 1080ti_1"):
        CostModel(latency_table=path, latency_device="cpu")
    with pytest.raises(ValueError, match="needs a latency_device; it has 1080ti_1"):
        CostModel(latency_table=path)


def test_errors() -> None:
    with pytest.raises(ValueError, match="give the cost model a latency_device"):
        ConstrainedFitness(SumOfGenes(), Limits(max_latency_ms=3))
    with pytest.raises(ValueError, match="not a torch device of this machine"):
        CostModel(latency_device="pixel3")
    with pytest.raises(ValueError, match="no option 'depth'; they have channels, cells"):
        CostModel(network={"depth": 3}).setup(SPACE)


def test_global_random_state_is_left_alone() -> None:
    fitness = constrained(Limits(max_params=1))
    state = torch.get_rng_state()
    fitness(CELLS, everyone(CELLS))
    assert torch.equal(state, torch.get_rng_state())


class Tiles(pl.LightningDataModule):
    """Images of one channel, 6 x 9 pixels, three classes."""

    num_classes = 3

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(torch.zeros(4, 1, 6, 9), torch.arange(4) % 3), 2)


def test_the_network_that_is_counted_fits_the_data() -> None:
    fitness = ConstrainedFitness(SumOfGenes(), Limits(max_params=1), CostModel(network=SMALL))
    fitness.setup(SPACE, Tiles())
    expected = count_costs(SPACE.build(CELLS[3], 3, in_channels=1, **SMALL), (1, 6, 9))
    assert fitness.costs(CELLS[3:4]) == [expected]
    telling = Tiles()
    telling.in_channels, telling.image_size, telling.train_dataloader = 3, 8, None  # no image is needed
    told = CostModel(network=SMALL)
    told.setup(SPACE, telling)
    expected = count_costs(SPACE.build(CELLS[3], 3, in_channels=3, **SMALL), (3, 8, 8))
    assert told.costs(CELLS[3]) == expected
    chosen = CostModel(network=SMALL, input_shape=(1, 12, 12), num_classes=5)
    chosen.setup(SPACE, Tiles())
    expected = count_costs(SPACE.build(CELLS[3], 5, in_channels=1, **SMALL), (1, 12, 12))
    assert chosen.costs(CELLS[3]) == expected
