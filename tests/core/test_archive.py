import pytest
import torch

from ednag.core.archive import INFEASIBLE, Archive, feasible, first_occurrence, squared_distance
from ednag.core.noise import Noise


def test_a_run_draws_the_same_alone_and_in_a_batch() -> None:
    batch, alone = Noise([5, 6, 7]), Noise([6])
    high = torch.tensor([3, 4])
    for name, args in (("normal", (5, 2)), ("uniform", (3,)), ("integers", (high, 4, 2))):
        assert torch.equal(getattr(batch, name)(*args)[1], getattr(alone, name)(*args)[0])


def test_noise_continues_where_it_was_saved() -> None:
    noise = Noise([1, 2])
    noise.normal(3)
    saved = noise.state_dict()
    expected = noise.uniform(4)
    assert torch.equal(Noise.from_state_dict(saved).uniform(4), expected)


@pytest.mark.parametrize("seeds", [[], [-1]])
def test_bad_seeds_are_refused(seeds: list[int]) -> None:
    with pytest.raises(ValueError, match="seeds must be"):
        Noise(seeds)


def test_integers_stay_below_high() -> None:
    drawn = Noise([0]).integers(torch.tensor([1, 2, 5]), 4000, 3)[0]
    assert drawn.amax(0).tolist() == [0, 1, 4]
    assert drawn.amin(0).tolist() == [0, 0, 0]


def test_archive_agrees_with_a_dictionary() -> None:
    """An independent restatement: one ordered dict a run."""
    generator = torch.Generator().manual_seed(0)
    archive = Archive.empty(3, 2, capacity=2)
    plain: list[dict[int, float]] = [{}, {}, {}]
    for _ in range(20):
        keys = torch.randint(0, 60, (3, 7), generator=generator)
        fitness = torch.rand(3, 7, generator=generator, dtype=torch.float64)
        new = archive.unseen(keys)
        for run in range(3):
            for j in range(7):
                key = int(keys[run, j])
                assert bool(new[run, j]) == (key not in plain[run])
                plain[run].setdefault(key, float(fitness[run, j]))
        archive = archive.add(keys, keys[..., None].expand(-1, -1, 2), fitness, new, torch.full((3,), 7))
    for run in range(3):
        count = int(archive.count[run])
        assert archive.keys[run, :count].tolist() == list(plain[run])
        assert archive.fitness[run, :count].tolist() == list(plain[run].values())
        assert archive.genes[run, :count, 1].tolist() == list(plain[run])
        assert (archive.keys[run, count:] == -1).all()
    assert archive.lookups.tolist() == [140] * 3
    probe = torch.arange(60).expand(3, -1)
    known, position = archive.find(probe)
    for run in range(3):
        assert known[run].tolist() == [key in plain[run] for key in range(60)]
        assert archive.keys[run][position[run]][known[run]].tolist() == [k for k in range(60) if k in plain[run]]


def test_first_occurrence_marks_each_value_once() -> None:
    values = torch.tensor([[3, 1, 3, 2, 1], [4, 4, 4, 4, 4]])
    assert first_occurrence(values).tolist() == [[True, True, False, True, False], [True, False, False, False, False]]


def test_squared_distance_agrees_with_cdist() -> None:
    a, b = torch.randn(2, 5, 8, dtype=torch.float64), torch.randn(2, 3, 8, dtype=torch.float64)
    torch.testing.assert_close(squared_distance(a, b), torch.cdist(a, b).square())


def test_feasible_separates_failures_and_violations() -> None:
    fitness = torch.tensor([-torch.inf, INFEASIBLE, 2 * INFEASIBLE, -5.0, 93.0], dtype=torch.float64)
    assert feasible(fitness).tolist() == [False, False, False, True, True]


def test_a_large_archive_grows_in_place_and_earlier_ones_stay_as_they_were() -> None:
    keys = torch.randperm(20_000, generator=torch.Generator().manual_seed(1))[:9000]
    one = torch.ones(1, 1, dtype=torch.int64)
    archive, earlier, moves = Archive.empty(1, 2), [], 0
    for key in keys.tolist():
        before = archive.keys.data_ptr()
        archive = archive.add(one * key, (one * key)[..., None].expand(-1, -1, 2), one.double(), one > 0, one[0])
        archive.find(one)
        moves += int(archive.count) > 4097 and archive.keys.data_ptr() != before
        if len(earlier) < 3 and int(archive.count) % 2999 == 0:
            earlier.append(archive)
    assert moves == 1  # at 8,192
    for some in [*earlier, archive]:
        count = int(some.count)
        assert some.keys[0, :count].tolist() == keys[:count].tolist()
        assert (some.keys[0, count:] == -1).all()
        known, position = some.find(torch.arange(20_000)[None])
        assert sorted(known[0].nonzero().flatten().tolist()) == sorted(keys[:count].tolist())
        assert torch.equal(some.keys[0][position[0]][known[0]], torch.arange(20_000)[known[0]])


def test_what_is_added_in_passing_leaves_no_trace() -> None:
    one = torch.ones(1, 70, dtype=torch.int64)
    keys = torch.arange(70)[None]
    archive = Archive.empty(1, 1).add(keys, keys[..., None], keys.double(), one > 0, one[0, :1])
    guess = archive.add(keys + 100, keys[..., None], keys.double(), one > 0, one[0, :1], passing=True)
    assert int(guess.count) == 140
    assert bool(guess.find(keys + 100)[0].all())
    archive = archive.add(keys + 200, keys[..., None], keys.double(), one > 0, one[0, :1])
    assert not bool(archive.find(keys + 100)[0].any())
    assert archive.keys[0, :140].tolist() == [*range(70), *range(200, 270)]
