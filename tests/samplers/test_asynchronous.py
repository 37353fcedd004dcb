"""Search with evaluations under way: the budget, what is proposed twice, interruptions, and limits."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from ednag.core.archive import INFEASIBLE
from ednag.samplers import ArchiveDiffusion, LocalSearch, Problem, RandomSearch, RegularisedEvolution, Sampler
from ednag.samplers.asynchronous import Asynchronous
from ednag.samplers.base import State
from ednag.samplers.members import Members
from ednag.samplers.proposals import in_turn
from ednag.spaces import NASBench201

TARGET = torch.tensor([3, 1, 2, 3, 0, 4])


class Convolutions:
    """A fitness that counts; what begins with gene 1 violates a limit, if there is one."""

    def __init__(self, limit: bool = False) -> None:
        self.limit = limit

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        scores = (genes == TARGET).sum(-1).double().where(valid, -torch.inf)
        return scores.masked_fill(valid & self.violates(genes, valid), 2 * INFEASIBLE)

    def violates(self, genes: Tensor, valid: Tensor) -> Tensor:
        return (genes[..., 0] == 1) & valid & self.limit


class Workers:
    """Several at a time; the one that ends is drawn."""

    def __init__(self, number: int, seed: int = 0, stop: int | None = None) -> None:
        self.number, self.stop, self.seen, self.most = number, stop, [], 0
        self.generator = torch.Generator().manual_seed(seed)

    def measure(self, proposals: Iterator[Tensor | None]) -> Iterator[Tensor]:
        running: list[Tensor] = []
        while True:
            while len(running) < self.number and (genes := next(proposals, None)) is not None:
                running.append(genes)
                self.seen.append(tuple(genes.tolist()))
            self.most = max(self.most, len(running))
            if not running or (self.stop is not None and len(self.seen) >= self.stop):
                return
            yield running.pop(int(torch.randint(len(running), (), generator=self.generator)))


def search(sampler: Sampler, budget: int, limit: bool = False, **options: object) -> Asynchronous:
    return Asynchronous(sampler, sampler.init(NASBench201(), [0]), Convolutions(limit), budget, **options)


@pytest.mark.parametrize("sampler", [ArchiveDiffusion(), RandomSearch(), RegularisedEvolution(10, 5)])
@pytest.mark.parametrize("number", [1, 7])
def test_the_budget_is_spent_and_nothing_is_evaluated_twice(sampler: Sampler, number: int) -> None:
    workers = Workers(number)
    state = search(sampler, 40).run(workers.measure)
    assert int(state.archive.paid) == len(workers.seen) == 40
    keys = NASBench201().identity(torch.tensor(workers.seen))
    assert len(set(keys.tolist())) == 40
    assert workers.most == number
    assert state.step >= 40


def test_the_optimum_is_found() -> None:
    sampler, problem = ArchiveDiffusion(), Problem(NASBench201(), "genes")  # isomorphic cells differ in this fitness
    state = sampler.init(problem, [0])
    state = Asynchronous(sampler, state, Convolutions(), 120).run(Workers(8).measure)
    assert float(state.archive.fitness.max()) == 6


def test_members_are_what_has_ended_and_pending_ones_take_no_place_in_the_window() -> None:
    sampler, taken = ArchiveDiffusion(window=16), []
    members_of = sampler._members

    def looked_at(state: State) -> Members:
        members = members_of(state)
        taken.append((int(members.real.sum()), int(state.known), state.pending))
        assert bool((members.worth[members.real] > -torch.inf).all())  # none of the pending ones
        return members

    sampler._members = looked_at  # type: ignore[method-assign]
    search(sampler, 60).run(Workers(24).measure)
    assert any(pending > 16 for _, _, pending in taken)
    assert all(number == min(known, 16) for number, known, _ in taken)


def test_what_is_pending_when_an_epoch_begins_is_left_to_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, space = ArchiveDiffusion(patience=0.5), NASBench201()
    ask, propose, members_of = sampler.ask, sampler._propose, sampler._members
    asked: dict[int, int] = {}  # in which epoch
    unscreened: dict[int, int] = {}  # how many in each
    late: set[int] = set()

    def asking(state: State) -> tuple[State, Tensor]:
        state, genes = ask(state)
        for key in space.identity(genes[0]).tolist():
            asked.setdefault(key, int(state.memory["epoch"]))
        return state, genes

    def proposing(state: State, pool: Tensor, score: Tensor, *rest: Tensor) -> tuple[State, Tensor]:
        epoch, fine = int(state.memory["epoch"]), score > -torch.inf
        unscreened.setdefault(epoch, 0)
        if torch.equal(score[fine], in_turn(pool)[fine]):
            unscreened[epoch] += int(rest[0])
        return propose(state, pool, score, *rest)

    def looked_at(state: State) -> Members:
        members, epoch = members_of(state), int(state.memory["epoch"])
        keys = space.identity(members.genes[members.real]).tolist()
        assert {asked[key] for key in keys} <= {epoch}
        ended = state.archive.keys[0, epoch : int(state.known)].tolist()
        late.update(key for key in ended if asked[key] < epoch)
        assert sorted(keys) == sorted(key for key in ended if asked[key] == epoch)
        return members

    for name, function in {"ask": asking, "_propose": proposing, "_members": looked_at}.items():
        monkeypatch.setattr(sampler, name, function)
    search(sampler, 150).run(Workers(20).measure)
    assert len(unscreened) >= 3
    assert late
    assert all(number >= sampler.initial for number in [*unscreened.values()][:-1])


def test_one_worker_finds_what_rounds_find() -> None:
    sampler, space = ArchiveDiffusion(), NASBench201()
    there = search(sampler, 40).run(Workers(1).measure)
    here = sampler.sample(space, Convolutions(), [0], 40)
    assert torch.equal(there.archive.keys[:, :40], here.archive.keys[:, :40])


def test_violators_cost_nothing_and_are_told() -> None:
    workers = Workers(4)
    state = search(ArchiveDiffusion(), 30, limit=True).run(workers.measure)
    assert all(genes[0] != 1 for genes in workers.seen)
    assert int(state.archive.paid) == 30
    assert int(state.archive.violators) > 0


def test_what_was_under_way_comes_first_after_an_interruption() -> None:
    sampler, space = ArchiveDiffusion(), NASBench201()
    first = search(sampler, 40)
    first.run(Workers(5, stop=20).measure)
    saved, pending = first.state.state_dict(), first.pending
    assert len(pending) >= 5
    again = Asynchronous(sampler, sampler.resume(space, saved), Convolutions(), 40, pending)
    workers = Workers(5)
    state = again.run(workers.measure)
    assert set(workers.seen[: len(pending)]) == {tuple(genes.tolist()) for genes in pending}
    assert int(state.archive.paid) == 40
    assert again.pending == []


def test_a_state_that_lacks_what_the_sampler_remembers_is_refused() -> None:
    sampler, space = ArchiveDiffusion(), NASBench201()
    saved = sampler.sample(space, Convolutions(), [0], 10).state_dict()
    del saved["memory"]["left"]
    with pytest.raises(KeyError, match="a state of ArchiveDiffusion without left"):
        sampler.resume(space, saved)


def test_a_small_space_is_left_when_everything_is_known() -> None:
    class Tiny(NASBench201):
        cardinalities = (2, 2, 1, 1, 1, 1)

    sampler, workers = ArchiveDiffusion(), Workers(3)
    state = Asynchronous(sampler, sampler.init(Tiny(), [0]), Convolutions(), 100).run(workers.measure)
    assert int(state.archive.count) == len(workers.seen) <= 4


def test_samplers_that_wait_are_refused() -> None:
    with pytest.raises(ValueError, match="LocalSearch can't go on"):
        search(LocalSearch(), 10)
    sampler = ArchiveDiffusion()
    with pytest.raises(ValueError, match="not for several runs"):
        Asynchronous(sampler, sampler.init(NASBench201(), [0, 1]), Convolutions(), 10)
