"""What every sampler must satisfy, on a space and a fitness with a known optimum."""

import pytest
import torch

from ednag.samplers import Problem, Sampler, State
from ednag.spaces import NASBench201

SPACE = NASBench201()
TARGET = torch.tensor([3, 1, 2, 3, 0, 4])


def closeness(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Share of genes that are the target's, in percent; smooth enough for any method to climb."""
    return ((genes == TARGET).double().mean(-1) * 100).where(valid, -torch.inf)


class SamplerChecks:
    """Subclass, and implement :meth:`make`."""

    budget: int | None = 150

    def make(self) -> Sampler:
        raise NotImplementedError

    def problem(self) -> Problem:
        """What is searched; isomorphic architectures count as one unless a class says otherwise."""
        return Problem(SPACE)

    def sample(self, seeds: list[int], budget: int | None = None, **options: object) -> State:
        return self.make().sample(self.problem(), closeness, seeds, budget or self.budget, **options)  # type: ignore[arg-type]

    def test_a_run_is_the_same_alone_and_in_a_batch(self) -> None:
        together = self.sample([3, 4, 5, 6, 7])
        for i, seed in enumerate((3, 4, 5, 6, 7)):
            alone = self.sample([seed])
            count = int(alone.archive.count[0])
            assert int(together.archive.count[i]) == count
            assert torch.equal(together.archive.keys[i, :count], alone.archive.keys[0, :count])
            assert torch.equal(together.archive.fitness[i, :count], alone.archive.fitness[0, :count])

    def test_seeds_matter_and_repeat(self) -> None:
        a, b, c = self.sample([1]), self.sample([1]), self.sample([2])
        assert torch.equal(a.archive.keys, b.archive.keys)
        assert not torch.equal(a.archive.keys[:, :20], c.archive.keys[:, :20])

    def test_nothing_is_evaluated_twice(self) -> None:
        paid: list[int] = []

        def counting(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
            paid.extend(self.problem().key(genes[valid]).tolist())
            return closeness(genes, valid)

        state = self.make().sample(self.problem(), counting, [0], self.budget)
        assert len(paid) == len(set(paid)) == int(state.archive.count[0])
        assert int(state.archive.lookups[0]) >= len(paid)

    @pytest.mark.parametrize("budget", [1, 7, 64])
    def test_the_budget_is_kept_exactly(self, budget: int) -> None:
        assert self.sample([0, 1, 2], budget).archive.count.tolist() == [budget] * 3

    def test_a_saved_state_continues_as_if_nothing_had_happened(self) -> None:
        whole = self.sample([8, 9])
        saved: list[dict] = []
        rounds = 0

        def stop(state: State, *_: torch.Tensor) -> None:
            nonlocal rounds
            rounds += 1
            if rounds == 3:
                saved.append(state.state_dict())
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.sample([8, 9], after_round=stop)
        sampler = self.make()
        state = sampler.resume(self.problem(), saved[0])
        end = sampler.sample(self.problem(), closeness, [8, 9], self.budget, state=state)
        most = int(whole.archive.count.max())
        assert torch.equal(end.archive.keys[:, :most], whole.archive.keys[:, :most])
        assert end.step == whole.step

    def test_it_beats_its_own_start(self) -> None:
        fitness = self.sample([0, 1, 2, 3]).archive.fitness
        assert fitness.amax(1).mean() > fitness[:, :10].amax(1).mean()

    def test_failing_constant_and_tied_fitness_end_cleanly(self) -> None:
        def failing(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
            return closeness(genes, valid).where(genes[..., 0] > 1, -torch.inf)

        def constant(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
            return torch.zeros(valid.shape, dtype=torch.float64).where(valid, -torch.inf)

        def hopeless(genes: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
            return torch.full(valid.shape, -torch.inf, dtype=torch.float64)

        for fitness in (failing, constant, hopeless):
            state = self.make().sample(self.problem(), fitness, [0, 1], 40)
            assert (state.archive.count == 40).all() or self.make().steps is not None
            assert not state.archive.fitness.isnan().any()
