import pytest
import torch

from ednag.core.noise import Noise
from ednag.costs.counting import count_costs
from ednag.costs.model import CostModel, Limits
from ednag.costs.objective import CostObjective, sum_over_genes
from ednag.fitness import Fitness
from ednag.fitness.constrained import ConstrainedFitness
from ednag.spaces import NASBench201, PretrainedLite, SearchSpace, TransNAS101Macro, TransNAS101Micro
from tests.conftest import TABLES

SMALL = {"channels": 2, "cells": 1}


class Nothing(Fitness):
    def score(self, genes: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a cost needs no score")


def objective(
    name: str, limits: Limits | None = None, model: CostModel | None = None, space: SearchSpace | None = None
) -> CostObjective:
    fitness = ConstrainedFitness(Nothing(), limits or Limits(), model or CostModel(SMALL, input_shape=(3, 8, 8)))
    fitness.setup(space or NASBench201())
    made = CostObjective(name, fitness.limits, fitness.cost_model)
    made.setup()
    return made


@pytest.mark.parametrize("name", ["params", "flops"])
def test_counts_are_sums_over_genes_and_equal_those_of_the_built_networks(name: str) -> None:
    made = objective(name, model=CostModel(input_shape=(3, 8, 8)), space=OwnCells())
    genes = NASBench201().random(Noise([5]), 25)[0]
    built = [count_costs(OwnCells().build(one, 10), (3, 8, 8)) for one in genes]
    assert made.quick
    assert made(genes).tolist() == [float(one.params if name == "params" else one.macs) for one in built]


@pytest.mark.parametrize("name", ["params", "flops"])
def test_a_space_that_counts_in_closed_form_needs_no_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = PretrainedLite()
    genes = space.random(Noise([5]), 12)[0]
    counted = [count_costs(space.build(one, 10, pretrained=False), (3, 64, 64)) for one in genes]
    values = [float(one.params if name == "params" else one.macs) for one in counted]
    limit = sorted(values)[6]

    def never(*_arguments: object) -> None:
        raise AssertionError("nothing is to be built")

    monkeypatch.setattr(PretrainedLite, "build", never)
    limits = Limits(max_params=limit) if name == "params" else Limits(max_flops=limit)
    made = objective(name, limits, CostModel(), space)
    assert made.quick
    assert made(genes).tolist() == [value if value <= limit else torch.inf for value in values]
    assert [one.params for one in made.model.of_each(genes)] == [one.params for one in counted]


class OwnMacro(TransNAS101Macro):
    """Builds networks of its own, so that the parent's closed form is not believed."""

    def build(self, genes: torch.Tensor, num_classes: int, in_channels: int = 3) -> torch.nn.Sequential:  # type: ignore[override]
        return super().build(genes, num_classes, in_channels, channels=16)


class OwnCells(NASBench201):
    """Likewise; its costs are a sum over genes."""

    def build(self, genes: torch.Tensor, num_classes: int, in_channels: int = 3) -> torch.nn.Sequential:  # type: ignore[override]
        return super().build(genes, num_classes, in_channels, **SMALL)


def test_a_space_whose_counts_are_no_sum_is_counted_one_by_one() -> None:
    space = OwnMacro()
    made = objective("params", model=CostModel(input_shape=(3, 32, 32)), space=space)
    assert not made.quick
    genes = space.random(Noise([0]), 64)[0]
    genes = genes[space.valid(genes)][:2]
    assert made(genes).tolist() == [float(one.params) for one in made.model.of_each(genes)]


def test_a_sum_is_refused_where_one_architecture_disagrees() -> None:
    space, model = TransNAS101Micro(), CostModel(input_shape=(3, 32, 32))
    model.setup(space)
    special = space.random(Noise([0]), 2)[0][1]

    def count(genes: torch.Tensor) -> object:
        extra = int(torch.equal(genes, special))
        total = int(genes.sum())
        return type("Counted", (), {"params": total + extra, "macs": 2 * total})()

    assert sum_over_genes(space, count, checks=1) is not None  # type: ignore[arg-type]
    assert sum_over_genes(space, count, checks=2) is None  # type: ignore[arg-type]


def test_what_violates_a_limit_costs_infinitely_much() -> None:
    free, limited = objective("flops"), objective("flops", Limits(max_params=4_000))
    genes = NASBench201().random(Noise([1]), 40)[0]
    params = torch.tensor([float(one.params) for one in limited.model.of_each(genes)]).double()
    assert 0 < int((params > 4_000).sum()) < 40
    assert torch.equal(limited(genes), free(genes).where(params <= 4_000, torch.inf))


def test_latencies_come_from_the_table() -> None:
    path = TABLES / "nasbench201_latency.npz"
    model = CostModel(SMALL, latency_device="pixel3", latency_table=path, input_shape=(3, 8, 8))
    genes = NASBench201().random(Noise([2]), 6)[0]
    plain = objective("latency_ms", model=model)
    assert plain.quick
    assert plain(genes).tolist() == [one.latency_ms for one in plain.model.of_each(genes)]
    limit = float(plain(genes).median())
    limited = objective("latency_ms", Limits(max_latency_ms=limit), model)
    assert limited.quick
    assert limited(genes).isinf().tolist() == (plain(genes) > limit).tolist()


def test_a_measured_latency_is_measured_once_and_kept() -> None:
    model = CostModel(SMALL, latency_device="cpu", warmup=0, repeats=1, input_shape=(3, 8, 8))
    made = objective("latency_ms", model=model)
    genes = NASBench201().random(Noise([3]), 3)[0]
    assert not made.quick
    assert torch.equal(made(genes), made(genes))
    other = objective("latency_ms", model=model)
    other.model.load_state_dict(made.model.state_dict())
    assert torch.equal(other(genes), made(genes))


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="one of params, flops, latency_ms, got 'size'"):
        objective("size")
    with pytest.raises(ValueError, match=r"--cost\.latency_device"):
        objective("latency_ms")
