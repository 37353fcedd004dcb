import pytest
import torch

from ednag.core.archive import INFEASIBLE
from ednag.core.noise import Noise
from ednag.fitness import Fitness
from ednag.samplers import ArchiveDiffusion, Problem
from ednag.samplers.parts import normal_scores
from ednag.samplers.posterior import declared_noise, posterior_mean
from ednag.spaces import NASBench201
from ednag.testing import closeness

SPACE = NASBench201()


def test_an_error_is_worth_the_ranks_that_it_could_change() -> None:
    fitness = torch.tensor([[1.0, 2.0, 4.0, 8.0, -torch.inf, INFEASIBLE * 1.5, 3.0]], dtype=torch.float64)
    member = torch.tensor([[True] * 6 + [False]])
    error = torch.tensor([[0.0, 1.0, 2.0, 100.0, 1.0, 1.0, 5.0]], dtype=torch.float64)
    z = normal_scores(torch.tensor([[3.0, 2.0, 1.0, 0.0, 5.0, 4.0, 9.0]], dtype=torch.float64), member)[0]
    noise = declared_noise(fitness, error, member)[0]
    # 2 could be 1 (the next worse) or 3 (half way to the next better); 4 could be 2 or 6; 8 anything that was seen
    half = (z[1] + z[2]) / 2, (z[2] + z[3]) / 2
    wanted = [0.0, (half[0] - z[0]) / 2, (half[1] - z[1]) / 2, (z[3] - z[0]) / 2]
    assert noise[:4].tolist() == pytest.approx([float(w) ** 2 for w in wanted])
    assert noise[4:].tolist() == [0.0] * 3


class Measured:
    """Closeness with a normal error of a known size that each evaluation draws anew."""

    def __init__(self, deviation: float, declared: bool = True) -> None:
        self.deviation, self.declared = deviation, declared
        self.noise = Noise([7])

    def __call__(self, genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        luck = self.noise.normal(valid.numel())[0].view(valid.shape)
        return closeness(genes, valid) + self.deviation * luck

    def standard_error(self, genes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor | None:
        return torch.full_like(scores, self.deviation) if self.declared else None


def test_the_posterior_mean_chooses_better_than_the_luckiest_draw() -> None:
    fitness = Measured(6.0)
    state = ArchiveDiffusion().sample(SPACE, fitness, range(20), 60)
    assert state.problem.error is not None
    archive, valid = state.archive, state.archive.filled
    truth = closeness(archive.genes, valid)
    mean = posterior_mean(state.problem, archive)
    assert mean[valid].isfinite().all()
    picked, lucky = (truth.gather(1, by.argmax(1, keepdim=True)).mean() for by in (mean, archive.fitness))
    assert picked > lucky + 1
    closer = [(by - truth)[valid].abs().mean() for by in (mean, archive.fitness)]
    assert closer[0] < closer[1]


def test_exact_scores_stay_what_they_are_in_order() -> None:
    state = ArchiveDiffusion().sample(SPACE, closeness, range(3), 40)
    mean = posterior_mean(Problem(SPACE), state.archive)
    for run in range(3):
        best = state.archive.fitness[run, :40].max()
        assert state.archive.fitness[run, mean[run].argmax()] > best - 3
        assert mean[run, :40].max() <= best + 1e-9


def test_a_declared_error_changes_what_is_proposed_and_a_run_alone_is_the_run_in_a_batch() -> None:
    class Fixed(Measured):
        def __call__(self, genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
            return closeness(genes, valid)

    told, untold = (ArchiveDiffusion().sample(SPACE, Fixed(9.0, told), range(3), 40).archive for told in (True, False))
    assert not torch.equal(told.keys, untold.keys)
    alone = ArchiveDiffusion().sample(SPACE, Fixed(9.0), [2], 40).archive
    assert torch.equal(alone.keys[0, :40], told.keys[2, :40])


class Doubtful(Fitness):
    """One score for everything but a far-off cell, which was lucky; it says so."""

    name = "doubtful"

    def score(self, genes: torch.Tensor) -> torch.Tensor:
        return genes.double().sum(-1) + 30 * (genes == 0).all(-1)

    def standard_error(self, genes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return torch.where((genes == 0).all(-1), 30.0, 0.5).double()


def test_the_mean_of_a_lucky_draw_comes_down_to_its_neighbours() -> None:
    fitness = Doubtful()
    fitness.setup(SPACE)
    genes = torch.cat([torch.zeros(1, 1, 6, dtype=torch.int64), SPACE.random(Noise([1]), 60)], 1)
    problem = Problem(SPACE, distinct="genes", error=fitness.standard_error)
    state = ArchiveDiffusion().init(problem, [0])
    archive, _ = problem.evaluate(state.archive, genes, fitness, None)
    assert int(archive.fitness.argmax()) == 0
    mean = posterior_mean(problem, archive)[0]
    assert int((mean > mean[0]).sum()) > 10
