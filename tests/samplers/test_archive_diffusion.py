from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from ednag.core.archive import INFEASIBLE
from ednag.core.fingerprint import settings
from ednag.core.noise import Noise
from ednag.core.storage import load_state, save_state
from ednag.fitness import KnowledgeFitness
from ednag.samplers import ArchiveDiffusion, GaussianProcess, Problem, RandomSearch, Sampler, State, parts
from ednag.samplers.members import Members, led_by
from ednag.samplers.presets import load_preset
from ednag.samplers.priors import Priors, informed
from ednag.spaces import NASBench201, SearchSpace
from ednag.testing import SPACE, TARGET, SamplerChecks, closeness


class TestDefault(SamplerChecks):
    budget = 100

    def make(self) -> Sampler:
        return ArchiveDiffusion()


class TestWithoutSurrogate(SamplerChecks):
    budget = 80

    def make(self) -> Sampler:
        return ArchiveDiffusion(screen=False)


class TestSmallWindowAndQuickRestarts(SamplerChecks):
    """The archive outgrows the window, and epochs end, well within the budget; gene strings count one by one."""

    budget = 80

    def make(self) -> Sampler:
        return ArchiveDiffusion(window=30, patience=0.5, batch_growth=10)

    def problem(self) -> Problem:
        return Problem(SPACE, "genes")


class Uneven(NASBench201):
    """Few choices, unequal ones, and a gene without any."""

    cardinalities = (2, 3, 1, 2, 4, 1)
    random = SearchSpace.random  # each gene by itself


class Barred(NASBench201):
    """Only a quarter of the gene strings is valid."""

    random = SearchSpace.random  # each gene by itself

    def valid(self, genes: torch.Tensor) -> torch.Tensor:
        return super().valid(genes) & (genes[..., 0] % 2 == 1) & (genes[..., 1] < 3)


class Vast(NASBench201):
    """More gene strings than could be enumerated, without isomorphism or features."""

    cardinalities = (5,) * 28
    random = SearchSpace.random  # each gene by itself

    def features(self, genes: torch.Tensor) -> torch.Tensor:
        return super(NASBench201, self).features(genes)

    def identity(self, genes: torch.Tensor) -> torch.Tensor:
        return self.code(genes)


def summed(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    return genes.double().sum(-1).where(valid, -torch.inf)


@pytest.mark.parametrize("space", [Uneven(), Barred(), Vast()])
def test_any_space_and_a_run_alone_is_the_run_in_a_batch(space: NASBench201) -> None:
    sampler, problem = ArchiveDiffusion(), Problem(space, "genes")
    together = sampler.sample(problem, summed, [1, 2, 3, 4], 60)
    expected = min(60, space.size)
    assert together.archive.count.tolist() == [expected] * 4
    assert space.valid(together.archive.genes[:, :expected]).all()
    for i, seed in enumerate((1, 2, 3, 4)):
        alone = sampler.sample(problem, summed, [seed], 60)
        assert torch.equal(alone.archive.keys[0, :expected], together.archive.keys[i, :expected])


def test_a_space_smaller_than_the_budget_is_evaluated_whole_and_ends() -> None:
    state = ArchiveDiffusion().sample(Problem(Uneven(), "genes"), closeness, [0, 1], 500)
    assert state.archive.count.tolist() == [48, 48]
    isomorphic = ArchiveDiffusion().sample(Uneven(), closeness, [0, 1], 500)
    genes = torch.cartesian_prod(*[torch.arange(k) for k in Uneven.cardinalities])
    assert isomorphic.archive.count.tolist() == [len(Uneven().identity(genes).unique())] * 2


@pytest.mark.slow
def test_failures_and_violated_constraints_rank_last_in_their_order() -> None:
    """Violators are led to the feasible region: of two that violate, the less negative guides."""

    def constrained(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        excess = (genes >= 2).sum(-1)
        value = torch.where(excess > 1, INFEASIBLE * (1.0 + excess), closeness(genes, valid))
        return value.where(genes[..., 5] != 3, -torch.inf)

    state = ArchiveDiffusion().sample(SPACE, constrained, list(range(6)), 60)
    feasible = state.archive.fitness[:, :60] > INFEASIBLE
    assert feasible[:, 30:].double().mean() > 2 * feasible[:, :6].double().mean()
    assert feasible.any(1).all()


class Gappy:
    """Closeness, known for one architecture in eight only."""

    def __init__(self, partial: bool) -> None:
        self.partial = partial

    def __call__(self, genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        known = SPACE.identity(genes) * 2654435761 % 2**32 < 2**29
        return closeness(genes, valid).where(known, -torch.inf)


@pytest.mark.slow
def test_what_a_partial_fitness_does_not_know_misleads_nobody() -> None:
    told, untold = (
        ArchiveDiffusion().sample(SPACE, Gappy(partial), range(30), 100).archive for partial in (True, False)
    )
    assert told.count.tolist() == [100] * 30
    assert told.fitness.amax(1).mean() > untold.fitness.amax(1).mean() + 6  # about two standard errors


def test_only_ranks_matter() -> None:
    def stretched(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return (closeness(genes, valid) / 7).exp() - 1e4

    a, b = (ArchiveDiffusion().sample(SPACE, f, [0, 1, 2], 80) for f in (closeness, stretched))
    assert torch.equal(a.archive.keys, b.archive.keys)


def test_it_climbs_a_smooth_hill_soon() -> None:
    state = ArchiveDiffusion().sample(SPACE, closeness, list(range(10)), 60)
    assert torch.isin(state.archive.keys, SPACE.identity(TARGET)).any(1).all()


PARTS = ("denoise", "recombine", "weigh", "correct", "screen")


def test_each_ablation_changes_the_proposals_and_keeps_the_size_of_the_pool() -> None:
    options: list[dict[str, bool]] = [{}, *({part: False} for part in PARTS)]
    samplers = [ArchiveDiffusion(**option) for option in options]
    keys = {tuple(s.sample(SPACE, closeness, [0], 40).archive.keys[0, :40].tolist()) for s in samplers}
    assert len(keys) == len(options)
    none = ArchiveDiffusion(**dict.fromkeys(PARTS, False))
    assert none.sample(SPACE, closeness, [0], 20).archive.count.tolist() == [20]


def candidates(**options: bool) -> torch.Tensor:
    """What a round proposes besides uniform architectures, from an archive of two that differ in every gene."""
    sampler = ArchiveDiffusion(**options)
    genes = torch.tensor([[[0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]])
    rank = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    members = Members(genes, torch.tensor([[True, True]]), rank, -rank)
    return sampler._pool(sampler.init(SPACE, [0]), members)[0, sampler.uniform :]


def test_denoising_recombines_members_and_the_corrector_brings_in_what_none_has() -> None:
    recombined = candidates(correct=False, weigh=False)
    assert recombined.max() <= 1
    assert recombined.sum(-1).unique().numel() > 3
    assert candidates(correct=False, weigh=False, recombine=False).sum(-1).unique().tolist() == [0, 6]
    foreign = (candidates() > 1).sum(-1)
    assert foreign.max() == 2
    assert (foreign > 0).double().mean() > 0.5
    assert (candidates(denoise=False, correct=False) > 1).double().mean() > 0.5


def test_weights_lead_denoising_to_the_better_member() -> None:
    zeros = [float((candidates(correct=False, weigh=weigh) == 0).double().mean()) for weigh in (True, False)]
    assert zeros[0] > 0.9
    assert zeros[1] == pytest.approx(0.5, abs=0.15)


def test_the_preset_spells_out_the_defaults_of_the_classes() -> None:
    assert settings(load_preset("default")) == settings(ArchiveDiffusion())


class Seeded(Vast):
    """A space that proposes where to begin."""

    def __init__(self, number: int) -> None:
        self.number = number

    def seeds(self) -> torch.Tensor:
        return torch.arange(self.number)[:, None].expand(-1, 28) % 5


@pytest.mark.parametrize(("number", "begun"), [(1, [0]), (3, [0, 1, 2]), (5, [0, 1, 2, 3, 4])])
def test_a_run_begins_with_a_few_seeds_and_screens_the_others(number: int, begun: list[int]) -> None:
    sampler, space = ArchiveDiffusion(initial=4), Seeded(number)
    state = sampler.init(Problem(space, "genes"), range(2))
    state, asked = sampler.ask(state)
    first = begun if number <= 4 else [0, 1, 2, 4]
    assert asked.shape[1] == len(first) + 4
    assert asked[:, : len(first), 0].tolist() == [first] * 2
    assert (asked[:, : len(first)] == asked[:, : len(first), :1]).all()
    members = Members(
        asked, torch.ones(2, asked.shape[1]).bool(), torch.zeros(2, asked.shape[1]), torch.zeros(2, asked.shape[1])
    )
    pool = sampler._pool(state, members)
    same = (pool[..., None, :] == space.seeds()).all(-1)  # of two runs, N proposals and all seeds
    assert same.any(1).all()


def test_climbs_find_what_the_surrogate_promises_more_of() -> None:
    """In a space of 28 genes of five choices, each with an effect of its own."""
    effects = torch.randn(28, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def additive(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return effects[torch.arange(28), genes].sum(-1).where(valid, -torch.inf)

    state = ArchiveDiffusion().sample(Problem(Vast(), "genes"), additive, range(4), 60)
    best = []
    for climbs in (0, 3):
        sampler = ArchiveDiffusion(climbs=climbs)
        members = sampler._members(state)
        again = replace(state, noise=Noise(range(4)))
        pool, scored = sampler._pool(again, members), sampler._scoring(again, members)
        best.append(sampler._climb(again, members, pool, scored)[2].amax(1))
    assert (best[0] <= best[1]).all()
    assert (best[0] < best[1]).sum() >= 3


def test_the_best_members_lead_the_climb_as_far_as_there_are_any() -> None:
    genes = torch.arange(3)[None, :, None].expand(1, 3, 6)
    real = torch.tensor([[True, False, True]])
    members = Members(genes, real, torch.tensor([[1.0, 5.0, 0.0]], dtype=torch.float64), torch.zeros(1, 3).double())
    parent = torch.full((1, 8, 6), 4)
    assert led_by(members, parent)[0, :, 0].tolist() == [4, 4, 4, 4, 2, 0, 4, 4]


def lucky(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Nothing but luck, which is the same whenever an architecture is evaluated."""
    luck = torch.sin(SPACE.identity(genes).double() * 12.9898) * 43758.5453 % 1
    return luck.where(valid, -torch.inf)


def test_a_run_judges_how_noisy_its_fitness_is() -> None:
    smooth, noisy = (
        ArchiveDiffusion().sample(SPACE, fitness, list(range(6)), 80).memory["nugget"] for fitness in (closeness, lucky)
    )
    assert smooth[:, [0, 2]].max() < 0.1  # with genes, which explain it
    assert noisy.min() > 0.3


def test_more_runs_than_are_screened_at_once_change_nothing(monkeypatch) -> None:
    sampler = ArchiveDiffusion(priors=[lambda genes, valid: -closeness(genes, valid)])
    whole = sampler.sample(SPACE, lucky, range(5), 40).archive
    monkeypatch.setattr(parts, "RUNS", 2)
    split = sampler.sample(SPACE, lucky, range(5), 40).archive
    assert torch.equal(split.keys, whole.keys)


def test_a_stale_run_opens_a_new_epoch() -> None:
    def constant(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return torch.zeros(valid.shape, dtype=torch.float64)

    epochs: list[int] = []
    ArchiveDiffusion(patience=1.0).sample(
        SPACE, constant, [0], 80, after_round=lambda state, *_: epochs.append(int(state.memory["epoch"][0]))
    )
    # stale from the end of the opening of 6: 24 one-gene changes later an epoch is over
    assert sorted(set(epochs)) == [0, 30, 60]
    never: list[int] = []
    ArchiveDiffusion(patience=0).sample(
        SPACE, constant, [0], 80, after_round=lambda state, *_: never.append(int(state.memory["epoch"][0]))
    )
    assert set(never) == {0}


def test_a_state_on_disk_continues_past_the_window(tmp_path) -> None:
    sampler = ArchiveDiffusion(window=40, surrogate=GaussianProcess(beta=(1.0, 1.0)))
    whole = sampler.sample(SPACE, closeness, [3, 4], 100)

    def keep(state: State, *_: torch.Tensor) -> None:
        if int(state.archive.count[0]) >= 60 and not (tmp_path / "state.pt").exists():
            save_state(tmp_path / "state.pt", state.state_dict())

    sampler.sample(SPACE, closeness, [3, 4], 100, after_round=keep)
    again = ArchiveDiffusion(window=40, surrogate=GaussianProcess(beta=(1.0, 1.0)))
    state = again.resume(SPACE, load_state(tmp_path / "state.pt"))
    end = again.sample(SPACE, closeness, [3, 4], 100, state=state)
    assert torch.equal(end.archive.keys, whole.archive.keys)


@pytest.mark.slow
def test_a_good_prior_saves_evaluations_and_a_misleading_one_fades() -> None:
    """Evaluations until the target, by what a prior says: nothing, the truth with errors, or the contrary."""
    seeds = list(range(12))

    def likely(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return (genes == TARGET).double() @ torch.tensor([1.0, 0.2, 1.5, 0.6, 2.0, 0.0], dtype=torch.float64)

    def spent(prior: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None) -> float:
        archive = ArchiveDiffusion(priors=[prior] if prior else []).sample(SPACE, closeness, seeds, 120).archive
        hit = torch.isin(archive.keys, SPACE.identity(TARGET))
        return float(torch.where(hit.any(1), hit.double().argmax(1) + 1.0, 120.0).mean())

    without = spent(None)
    assert spent(likely) < 0.8 * without
    assert spent(lambda genes, valid: -likely(genes, valid)) < 100


def test_only_the_order_of_a_prior_matters_and_nan_is_worst() -> None:
    def score(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return closeness(genes, valid).where(genes[..., 0] != 2, torch.nan)

    keys = []
    for prior in (score, lambda genes, valid: (score(genes, valid) / 9).exp() - 5):
        sampler = ArchiveDiffusion(priors=[prior])
        keys.append(sampler.sample(SPACE, closeness, [0, 1], 40).archive.keys[:, :40])
        alone = sampler.sample(SPACE, closeness, [1], 40).archive.keys[0, :40]
        assert torch.equal(alone, keys[-1][1])
    assert torch.equal(*keys)


def test_a_prior_is_told_which_architectures_are_valid_and_leads_the_first_half() -> None:
    space = Barred()

    def score(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        assert space.valid(genes[valid]).all()
        return (-genes.double().sum(-1)).where(valid, -torch.inf)

    sampler = ArchiveDiffusion(priors=[score])
    first = sampler.sample(Problem(space, "genes"), summed, [0, 1, 2], 6).archive.genes[:, :6].double().sum(-1)
    assert ((first < 6).sum(1) >= 3).all()  # a uniform one has 10.5 on average
    assert first.amax(1).mean() > 8


def test_knowledge_opens_with_its_best_and_speaks_with_a_voice_for_each_source() -> None:
    space, problem = SPACE, Problem(SPACE)
    fitness = KnowledgeFitness()
    fitness.setup(space)
    priors = Priors([fitness, lambda genes, valid: genes[..., 0].double()], problem)
    genes = space.random(Noise([0]), 20)
    assert priors(genes, torch.ones(1, 20, dtype=torch.bool)).shape == (1, 20, 4)
    alone = Priors([fitness], problem)
    assert not priors.looked_up  # a function may be slow: only 1,024 architectures are asked for
    assert alone.looked_up
    best = fitness(alone.best, torch.ones(len(alone.best), dtype=torch.bool))
    every = fitness(problem.every_architecture(), torch.ones(space.size, dtype=torch.bool))
    assert len(set(problem.key(alone.best).tolist())) == len(best) == 64
    assert float(best[:20].min()) > float(every.quantile(0.99))
    first = ArchiveDiffusion(priors=[fitness]).sample(space, closeness, [0, 1], 6).archive
    assert torch.isin(problem.key(alone.best[:3]), first.keys[0]).all()
    assert not torch.isin(first.keys[0, :6], problem.key(alone.best)).all()  # half of the opening is uniform


def test_knowledge_is_one_more_prior_of_a_sampler_that_takes_any() -> None:
    sampler = ArchiveDiffusion(priors=[closeness])
    more = informed(sampler)
    assert [type(prior) for prior in more.priors[1:]] == [KnowledgeFitness]
    assert sampler.priors == [closeness]  # which stays as it was
    with pytest.raises(ValueError, match="RandomSearch has no use for knowledge"):
        informed(RandomSearch())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"initial": 0}, "initial"),
        ({"batch_max": 1}, "batch_max"),
        ({"num_steps": 0}, "at least 1 step"),
        ({"pool": 0}, "pool"),
        ({"two_genes": 1.5}, "two_genes"),
        ({"patience": -1}, "patience"),
        ({"climbs": -1}, "climbs"),
        ({"parents": 1}, "parents"),
    ],
)
def test_bad_arguments_are_refused(option: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ArchiveDiffusion(**option)
