"""What limits say before anything is measured: exact where it is counted, never sure where it can't be."""

import pytest
import torch
from torch import Tensor

from ednag.core.noise import Noise
from ednag.costs import model as costs_model
from ednag.costs.latency_guess import FIRST, LatencyGuess, middle
from ednag.costs.latency_tables import LatencyTable
from ednag.costs.model import CostModel, Limits, fitted_to
from ednag.costs.screening import ENOUGH
from ednag.fitness import BenchmarkFitness
from ednag.fitness.constrained import ConstrainedFitness
from ednag.generation.front import Front
from ednag.samplers import ArchiveDiffusion, ParetoDiffusion, Problem
from ednag.spaces import NASBench201
from ednag.spaces.base import gene_strings

SPACE = NASBench201()
DEVICE = "pixel3"


class Simulated(CostModel):
    """Measures by a table, and remembers what."""

    def __init__(self, **options: object) -> None:
        super().__init__(latency_device="cpu", **options)
        self.asked: list[int] = []
        self.table = LatencyTable("nasbench201_latency")

    def _build(self, genes: Tensor) -> Tensor:
        self.asked.append(int(SPACE.code(genes)))
        return genes


@pytest.fixture(autouse=True)
def simulated_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = LatencyTable("nasbench201_latency")

    def measure(genes: Tensor, *_: object, **__: object) -> float:
        return float(table.latency(genes, DEVICE))

    monkeypatch.setattr(costs_model, "measure_latency", measure)


def constrained(limits: Limits) -> tuple[ConstrainedFitness, Simulated]:
    model = Simulated()
    fitness = ConstrainedFitness(BenchmarkFitness("nasbench201", "cifar10"), limits, model)
    fitness.setup(SPACE)
    return fitness, model


def everyone(genes: Tensor) -> Tensor:
    return torch.ones(len(genes), dtype=torch.bool)


def test_what_violates_a_counted_limit_is_never_timed() -> None:
    genes = SPACE.random(Noise([0]), 60)[0]
    macs = SPACE.count(genes, 10)[:, 1].double()
    limit = float(macs.median())
    fitness, model = constrained(Limits(max_flops=limit, max_latency_ms=1e9))
    fitness(genes, everyone(genes))
    assert {int(code) for code in SPACE.code(genes[macs > limit])}.isdisjoint(model.asked)
    assert 0 < len(model.asked) <= int((macs <= limit).sum())


def test_isomorphic_architectures_are_measured_once_if_they_have_the_same_layers() -> None:
    fitness, model = constrained(Limits(max_latency_ms=1e9))
    every = gene_strings(SPACE.cardinalities)
    pairs = torch.cat([SPACE.identity(every)[:, None], SPACE.count(every, 10)], -1)
    kind, place, number = torch.unique(pairs, dim=0, return_inverse=True, return_counts=True)
    classes, kinds = torch.unique(kind[:, 0], return_counts=True)
    # a class whose members have different layers, and of these two with the same ones
    chosen = int(kind[(number > 1) & torch.isin(kind[:, 0], classes[kinds > 1]), 0][0])
    genes = every[pairs[:, 0] == chosen]
    assert len(set(SPACE.identity(genes).tolist())) == 1
    layers = len(place[pairs[:, 0] == chosen].unique())
    assert 1 < layers < len(genes)
    fitness(genes, everyone(genes))
    assert model.measured == len(model.asked) == layers


def test_predicted_violators_are_dismissed_unmeasured() -> None:
    genes = SPACE.random(Noise([1]), 1500)[0]
    truth = LatencyTable("nasbench201_latency").latency(genes, DEVICE)
    limit = float(truth.quantile(0.3))
    fitness, model = constrained(Limits(max_latency_ms=limit))
    assert not (fitness.screen.excess(genes) > 0).any(), "nothing is known yet"
    fitness.violation(genes[:150], everyone(genes[:150]))
    sure = fitness.screen.excess(genes) > 0
    wrong = sure != (truth > limit)
    assert sure.double().mean() > 0.2
    assert wrong.double().mean() < 0.15
    beyond = fitness.screen.excess(genes, sure=True) > 0
    assert 0 < beyond.sum() < sure.sum()
    before = model.measured
    fitness.violation(genes[beyond], everyone(genes[beyond]))
    assert model.measured == before


def parts_of(genes: Tensor) -> list[Tensor]:
    return [SPACE.layers(genes).double(), *SPACE.count(genes, 10).double()[..., None].unbind(1)]


@pytest.mark.parametrize("device", ["raspi4", "titan_rtx_1", "samsung_a50"])
def test_a_guess_knows_how_far_it_can_be_wrong(device: str) -> None:
    genes = SPACE.random(Noise([2]), 1100)[0]
    parts, truth = parts_of(genes), LatencyTable("nasbench201_latency").latency(genes, device)
    widths = []
    for number in (FIRST, 100):
        guess = LatencyGuess([part[:number] for part in parts], truth[:number])
        low, high = guess.bounds([part[number:] for part in parts])
        inside = (low <= truth[number:]) & (truth[number:] <= high)
        assert inside.double().mean() > 0.8
        widths.append(float((high / low).log().mean()))
    assert widths[1] < 2.5 * float(truth.log().std()), "bounds that say nothing hold as well"


def test_times_that_add_up_are_found_from_few_measurements() -> None:
    genes = SPACE.random(Noise([3]), 200)[0]
    parts = parts_of(genes)
    weights = torch.tensor([0.1, 1.0, 3.0, 0.5]).double()
    for kept in (slice(4), slice(4, 8)):  # a device that runs all layers, and one that drops what leads nowhere
        truth = 2 + parts[0][:, kept] @ weights
        guess = LatencyGuess([part[:12] for part in parts], truth[:12])
        off = (middle(guess.bounds([part[12:] for part in parts])) / truth[12:]).log().abs()
        assert off.median() < 0.06
    constant = LatencyGuess([part[:12] for part in parts], torch.full((12,), 7.0, dtype=torch.float64))
    assert middle(constant.bounds(parts)).allclose(torch.tensor(7.0, dtype=torch.float64))


def test_a_model_of_latencies_depends_on_their_number_alone() -> None:
    assert [fitted_to(n) for n in (8, 9, 63, 64, 65, 71, 72, 80, 81, 90, 91)] == [
        *(8, 9, 63, 64, 64, 64, 72, 72, 81, 81, 91)
    ]


def test_a_front_is_found_with_a_tenth_of_the_measurements() -> None:
    fitness, model = constrained(Limits())
    found = Front("latency_ms", fitness)
    found.setup()
    problem = Problem(SPACE, "genes", cost=found.cost)
    archive = ParetoDiffusion().sample(problem, fitness, [0], 100).archive
    found.settle(archive)
    genes = torch.stack([archive.genes[place] for place in found.places(archive)])
    assert model.known(genes).all()
    assert model.measured <= 36  # 340 if all that is proposed is measured
    assert len(genes) > 8


def test_a_run_under_a_latency_measures_little_and_reports_only_what_was_measured_within() -> None:
    limit = float(LatencyTable("nasbench201_latency").latency(SPACE.random(Noise([7]), 500)[0], DEVICE).quantile(0.3))
    fitness, model = constrained(Limits(max_latency_ms=limit))
    state = ArchiveDiffusion().sample(Problem(SPACE), fitness, [0], 100)
    assert int(state.archive.paid[0]) == 100
    assert ENOUGH <= model.measured < 40
    best = state.archive.genes[0, state.archive.fitness[0].argmax()]
    assert model.table.latency(best, DEVICE) <= limit


def test_a_restored_screen_knows_what_was_measured() -> None:
    first, _ = constrained(Limits(max_latency_ms=20.0))
    genes = SPACE.random(Noise([4]), 300)[0]
    first.violation(genes[:60], everyone(genes[:60]))
    second, other = constrained(Limits(max_latency_ms=20.0))
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.screen.excess(genes), first.screen.excess(genes))
    second.violation(genes[:30], everyone(genes[:30]))
    assert other.asked == []


def test_a_limit_that_nothing_meets_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs_model, "measure_latency", lambda *_, **__: 40.0)
    fitness, model = constrained(Limits(max_latency_ms=5.0))
    state = ArchiveDiffusion().sample(Problem(SPACE), fitness, [0], 60)
    assert state.step < 100
    assert int(state.archive.paid[0]) == 0
    assert model.measured == ENOUGH


def test_predictions_from_afar_hide_nothing_that_is_within(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(genes: Tensor, *_: object, **__: object) -> float:
        layers = int((genes > 1).sum())
        return 20.0 + 10 * layers if layers else 1.0  # nothing says so before one without layers was measured

    monkeypatch.setattr(costs_model, "measure_latency", measure)
    fitness, model = constrained(Limits(max_latency_ms=5.0))
    genes = SPACE.random(Noise([6]), 200)[0]
    layers = (genes > 1).sum(1)
    slow = genes[layers >= 3]
    fitness.violation(slow[:20], everyone(slow[:20]))
    measured = len(model.asked)
    others, fastest = slow[20:], torch.tensor([[1, 0, 0, 1, 0, 1]])
    assert (fitness.screen.excess(others, sure=True) > 0).all()
    assert (fitness.screen.excess(fastest) > 0).all()
    assert not fitness.screen.excess(fastest, sure=True).any()
    assert (fitness.violation(others, everyone(others)) > 0).all()
    assert len(model.asked) == measured
    assert not fitness.violation(fastest, everyone(fastest)).any()
    assert len(model.asked) == measured + 1
