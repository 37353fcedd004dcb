import pytest
import torch

from ednag.diffusion.mappings import Energy
from ednag.diffusion.schedules import Cosine
from ednag.evolution.correctors import Corrector
from ednag.evolution.operators import PolynomialMutation
from ednag.samplers import EvolutionaryDiffusion, Problem, Sampler
from ednag.testing import SPACE, SamplerChecks, closeness


class TestPaper(SamplerChecks):
    budget = None

    def make(self) -> Sampler:
        return EvolutionaryDiffusion(
            population=12, num_steps=15, corrector=Corrector(), mutation=PolynomialMutation(0.3, 20.0), layout="compact"
        )


class TestReleasedCode(SamplerChecks):
    budget = None

    def make(self) -> Sampler:
        return EvolutionaryDiffusion(
            population=20,
            num_steps=25,
            corrector=Corrector(),
            normalise=True,
            schedule=Cosine(0.0),
            mapping=Energy(1.0),
        )

    def problem(self) -> Problem:
        return Problem(SPACE, "genes")

    @pytest.mark.parametrize("budget", [1, 7])
    def test_the_budget_is_kept_exactly(self, budget: int) -> None:
        state = self.make().sample(SPACE, closeness, [0, 1], budget)
        assert state.archive.count.tolist() == [budget] * 2


def test_ablations_change_what_is_sampled() -> None:
    options = {"population": 10, "num_steps": 10, "layout": "compact"}
    runs = [
        EvolutionaryDiffusion(corrector=Corrector(), **options),
        EvolutionaryDiffusion(corrector=None, **options),
        EvolutionaryDiffusion(corrector=Corrector(), denoise=False, **options),
    ]
    keys = [run.sample(SPACE, closeness, [0]).archive.keys[0, :30].tolist() for run in runs]
    assert keys[0] != keys[1] != keys[2]


def test_steps_end_the_run_and_parents_are_not_scored_again() -> None:
    sampler = EvolutionaryDiffusion(population=8, num_steps=6, corrector=Corrector(), layout="compact")
    state = sampler.sample(SPACE, closeness, [0, 1])
    assert state.step == 7
    assert state.archive.lookups.tolist() == [8 + 6 * 8] * 2


def test_denoising_alone_drifts_to_the_better_members() -> None:
    """Without any corrector the mean fitness of the population must rise from noise to the end."""
    sampler = EvolutionaryDiffusion(population=30, num_steps=40, mapping=Energy(0.5), corrector=None, layout="compact")
    means: list[float] = []
    sampler.sample(SPACE, closeness, list(range(8)), after_round=lambda _s, _g, v: means.append(float(v.mean())))
    assert means[-1] > means[0] + 20


@pytest.mark.parametrize("options", [{"population": 1}, {"noise_scale": 1.5}, {"num_steps": 0}])
def test_bad_arguments_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="got"):
        EvolutionaryDiffusion(**options)


@pytest.mark.gpu
def test_on_cuda_a_run_is_the_same_alone_and_in_a_batch() -> None:
    def score(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return genes.double().sum(-1).where(valid, -torch.inf)

    sampler = EvolutionaryDiffusion(corrector=Corrector(), num_steps=20)
    together = sampler.sample(SPACE, score, [1, 2, 3], device="cuda").archive
    alone = sampler.sample(SPACE, score, [2], device="cuda").archive
    count = int(alone.count[0])
    assert torch.equal(together.keys[1, :count], alone.keys[0, :count])
