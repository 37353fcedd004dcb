import pytest
import torch

from ednag.core.noise import Noise
from ednag.samplers import Problem, RandomSearch
from ednag.spaces import NASBench201
from ednag.testing import SPACE, closeness


def test_what_is_derived_is_made_once_for_each_problem() -> None:
    made: list[int] = []
    first, second = Problem(SPACE), Problem(SPACE)
    for problem in (first, first, second):
        assert problem.derive("answer", lambda: made.append(0) or 42) == 42  # type: ignore[func-returns-value]
    assert len(made) == 2


def test_one_sampler_serves_two_spaces_at_once() -> None:
    """A sampler keeps nothing of a run: rounds of two problems can alternate."""

    class Small(NASBench201):
        cardinalities = (2, 2, 2, 2, 2, 2)

        def random(self, noise: Noise, count: int) -> torch.Tensor:
            return noise.integers(torch.tensor(self.cardinalities), count, 6)

    sampler = RandomSearch(batch=4)
    states = [sampler.init(SPACE, [0]), sampler.init(Small(), [0])]
    for _ in range(3):
        states = [sampler.round(state, closeness)[0] for state in states]
    assert states[1].archive.genes.max() <= 1
    assert vars(sampler) == {"batch": 4}


def test_another_kind_of_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="'isomorphism' or 'genes', got 'x'"):
        Problem(SPACE, "x")  # type: ignore[arg-type]
