"""Evolutionary diffusion in the discrete gene space, over everything evaluated so far: the `default` preset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ednag.core.archive import average_rank
from ednag.core.noise import Noise
from ednag.diffusion.categorical import denoise, uniform_genes
from ednag.diffusion.mappings import FitnessMapping, Rank
from ednag.diffusion.schedules import Levels, Schedule
from ednag.evolution.operators import roulette
from ednag.fitness import Fitness
from ednag.samplers.base import Sampler, State
from ednag.samplers.calibration import Score
from ednag.samplers.epochs import of_earlier, opened, pending
from ednag.samplers.evidence import Belief, Mixture, likeliest
from ednag.samplers.limits import permitted, within_limits
from ednag.samplers.members import Members, declared, led_by
from ednag.samplers.parts import in_parts, joined, normal_scores, split
from ednag.samplers.priors import Priors
from ednag.samplers.problem import ENUMERABLE
from ednag.samplers.proposals import changed, in_turn, pick, unseen
from ednag.samplers.surrogate import GaussianProcess
from ednag.spaces.base import choices


class ArchiveDiffusion(Sampler):
    """Categorical diffusion whose denoiser is the archive, an evolutionary corrector, and a surrogate that screens.

    Each round has four steps and evaluates only the most promising proposals:

    1. *Denoise*: from uniform noise through the signal levels, with the posterior over the archive, each member weighted
       by ``g`` of its fitness (:mod:`ednag.diffusion.categorical`). What comes out recombines the genes of
       members that are alike and good.
    2. *Correct*: change one gene or two of each, which brings in what no member has.
    3. *Screen* these, and some uniform architectures, by the upper confidence bound of a Gaussian process on the archive
       (:mod:`ednag.samplers.surrogate`); then, ``climbs`` times, what differs by a gene or two from the best of them (the
       first time, from the best members as well). Only what was never evaluated, and is isomorphic to nothing evaluated,
       is proposed, and nothing that is surely beyond a limit (:mod:`ednag.samplers.limits`).
    4. *Restart*: a run that did not improve for ``patience`` neighbourhoods (of all one-gene changes) opens a new epoch,
       as at its beginning with ``initial`` unscreened architectures; steps 1 to 3 see the epoch's members only.

    With evaluations under way (:class:`~ednag.samplers.asynchronous.Asynchronous`), members are those whose score is known; what is
    pending lowers the surrogate's deviation near it (:meth:`~ednag.samplers.surrogate.Fitted.expecting`), and half as many are
    proposed at a time. What is pending when an epoch begins is left to the one before.

    By default, fitness enters through ranks alone; failures weigh nothing, and what a partial fitness does not know is left
    out. If the pool has nothing new, uniform architectures are looked through, and in spaces of up to 2^17 gene strings all
    of them.

    How much of the fitness is luck, and how far an architecture says something of others, the surrogate judges from the
    members, anew whenever an epoch has grown by an eighth (:mod:`ednag.samplers.evidence`).

    What each part is worth is measured in ``docs/results.md``. *Recombination* does not earn its place: whole members drawn by
    weight, instead of genes denoised one by one, did as well wherever it was measured.

    Args:
        initial: unscreened uniform architectures at the start of an epoch. If the space has seeds
            (:meth:`~ednag.spaces.SearchSpace.seeds`), the first one begins with as many of them, evenly spread; the others are
            screened in every round.
        batch: evaluations per round; more, ``evaluated / batch_growth``, as the archive grows.
        batch_growth: see ``batch``.
        batch_max: most evaluations per round.
        pool: architectures per round that denoising and correction make, to be screened.
        uniform: uniform architectures per round that are screened with them.
        schedule: signal levels of the reverse process; the corrector expects clean genes, so level 1 at its end. By default
            ``Levels((0.2, 0.45, 0.7, 1.0))``.
        num_steps: reverse steps.
        mapping: fitness to weight in the posterior; by default ``Rank(0.15)``.
        two_genes: probability that the corrector changes two genes instead of one.
        patience: neighbourhoods without improvement that end an epoch; 0 for never.
        window: members that the model looks at: the latest half and the best of the others. Bounds the cost of a round.
        climbs: how often the best of the screened are varied and screened again, >= 0.
        children: variations each time.
        parents: how many are varied, >= 2.
        surrogate: settings of the screen; the defaults if omitted.
        denoise: whether to denoise; else the corrector is given noise.
        recombine: whether each gene is denoised by itself; else whole members are drawn by weight, which is what
            exact denoising, with the joint posterior of all genes, amounts to.
        weigh: whether better members weigh more in the posterior.
        correct: whether to correct.
        screen: whether to screen; else what comes first is paid for.
        priors: scores that are known before the first evaluation, such as :class:`ednag.fitness.KnowledgeFitness`, of
            which each source counts by itself. Their mean chooses half of the first architectures, and their ranks become
            the mean of the surrogate, by coefficients that the evaluations correct
            (:mod:`ednag.samplers.priors`). A :class:`~ednag.generation.run.Generation` sets them up.

    Examples:
        >>> from ednag.spaces import NASBench201
        >>> target = torch.tensor([3, 1, 2, 3, 0, 4])
        >>> def fitness(genes, valid):
        ...     return (genes == target).sum(-1).double().where(valid, -torch.inf)
        >>> state = ArchiveDiffusion().sample(NASBench201(), fitness, seeds=range(3), evaluations=60)
        >>> state.archive.fitness.amax(1)
        tensor([6., 6., 6.], dtype=torch.float64)
    """

    asynchronous = True

    def __init__(
        self,
        initial: int = 6,
        batch: int = 2,
        batch_growth: int = 40,
        batch_max: int = 16,
        pool: int = 96,
        uniform: int = 16,
        schedule: Schedule | None = None,
        num_steps: int = 4,
        mapping: FitnessMapping | None = None,
        two_genes: float = 0.4,
        patience: float = 10.0,
        window: int = 256,
        climbs: int = 3,
        children: int = 48,
        parents: int = 16,
        surrogate: GaussianProcess | None = None,
        denoise: bool = True,
        recombine: bool = True,
        weigh: bool = True,
        correct: bool = True,
        screen: bool = True,
        priors: list[Fitness | Score] | None = None,
    ) -> None:
        counts = {"initial": initial, "batch": batch, "batch_growth": batch_growth, "pool": pool, "uniform": uniform}
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        if batch_max < batch or window < 2:
            raise ValueError(f"need batch_max >= batch and window >= 2, got {batch_max} and {window}")
        if climbs < 0 or children < 1 or parents < 2:
            raise ValueError(
                f"need climbs >= 0, children >= 1 and parents >= 2, got {climbs}, {children} and {parents}"
            )
        if not 0 <= two_genes <= 1 or patience < 0:
            raise ValueError(f"need two_genes in [0, 1] and patience >= 0, got {two_genes} and {patience}")
        self.initial, self.batch, self.batch_growth, self.batch_max = initial, batch, batch_growth, batch_max
        self.pool, self.uniform, self.two_genes = pool, uniform, two_genes
        self.schedule, self.mapping = schedule or Levels(LEVELS), mapping or Rank(0.15)
        self.signal = self.schedule.alphas(num_steps).tolist()[-2::-1]
        self.patience, self.window = patience, window
        self.denoise, self.recombine, self.weigh, self.correct = denoise, recombine, weigh, correct
        self.surrogate = (surrogate or GaussianProcess()) if screen else None
        self.climbs, self.children, self.parents = climbs if screen else 0, children, parents
        self.priors = list(priors or [])

    def start(self, state: State) -> State:
        """Open the first epoch.

        The memory of a run: ``epoch``, the place in the archive where its epoch begins; ``seen``, architectures
        evaluated when last told; ``opening``, unscreened evaluations still due; ``stale``, evaluations since the epoch's
        last improvement; ``best`` of the epoch; ``nugget`` and ``factors``, what it believes of the fitness
        (:class:`~ednag.samplers.evidence.Belief`), revised when ``judge`` architectures are evaluated; ``exhausted``, whether
        nothing new is left; ``over``, whether the next :meth:`ask` opens a new epoch; and ``left``, keys of what was pending
        when the epoch began.
        """
        zero = torch.zeros_like(state.archive.count)
        first = self.initial + min(self.initial, len(state.space.seeds()))
        memory = {"epoch": zero, "seen": zero, "opening": zero + first, "stale": zero, "judge": zero}
        memory["best"] = torch.full(zero.shape, -torch.inf, dtype=torch.float64, device=zero.device)
        if self.surrogate is not None:
            memory |= Belief.first(self.surrogate, state.space, zero)._asdict()
        memory["exhausted"] = torch.zeros_like(zero, dtype=torch.bool)
        memory["over"], memory["left"] = memory["exhausted"].clone(), zero[:, None][:, :0]
        return replace(state, memory=memory)

    def ask(self, state: State) -> tuple[State, Tensor]:
        """Propose the most promising new architectures; repeats where a run has fewer than the others, or none left."""
        count, state = state.archive.count, opened(state, self.initial)
        due = (state.memory["opening"] - pending(state).shape[1]).clamp(min=0)
        want = (count // self.batch_growth).clamp(self.batch, self.batch_max).where(count > 0, due)
        if state.pending:  # each is chosen with the others in mind, and the next one will know more
            want = (want // self.batch).clamp(min=1)
        if bool(state.memory["exhausted"].all()):
            return state, state.archive.genes[:, :1]
        opening = due > 0
        if state.step == 0:
            pool, score = self._first(state)
            score = score.where(permitted(state.problem, pool), -torch.inf)
        else:
            members = self._members(state)
            state = self._judge(state, members)
            pool, fine, value = self._climb(state, members, self._pool(state, members), self._scoring(state, members))
            score = in_turn(pool).where(opening[:, None], value).where(fine, -torch.inf)
        lottery = (state.noise.uniform(1)[:, 0] * 2**24).long()
        return self._propose(state, pool, score, want, lottery)

    def tell(self, state: State, genes: Tensor, fitness: Tensor) -> State:
        """Note progress; where there was none for too long, the next :meth:`ask` opens a new epoch."""
        memory, count = state.memory, state.archive.count
        place = torch.arange(state.archive.keys.shape[1], device=count.device)
        new = (place >= memory["seen"][:, None]) & (place < count[:, None]) & ~of_earlier(state)
        top, paid = state.archive.fitness.where(new, -torch.inf).amax(1), new.sum(1)
        opening = (memory["opening"] - paid).clamp(min=0)
        stale = torch.where((top > memory["best"]) | (memory["opening"] > 0), 0, memory["stale"] + paid)
        moves = sum(k - 1 for k in state.space.cardinalities)
        over = (stale >= max(self.patience * moves, 1)) & (self.patience > 0)
        best = torch.maximum(memory["best"], top)
        told = {"seen": count, "opening": opening, "stale": stale, "best": best, "over": over}
        return replace(state, memory={**memory, **told})

    def _members(self, state: State) -> Members:
        """Look back over the current epochs, at most ``window`` members."""
        count = state.known[:, None]
        place = torch.arange(max(int(count.max()), 1), device=count.device).expand(len(count), -1)
        real = (place < count) & (place >= state.memory["epoch"][:, None])
        real &= ~of_earlier(state)[:, : place.shape[1]]
        fitness = state.archive.fitness[:, : place.shape[1]]
        if state.problem.partial:
            real = real & (fitness > -torch.inf)
        if place.shape[1] > self.window:
            worth = fitness.clamp(min=torch.finfo(fitness.dtype).min).where(place < count - self.window // 2, torch.inf)
            best = worth.where(real, -torch.inf).argsort(dim=1, descending=True, stable=True)
            place = best[:, : self.window].sort(1).values
            real, fitness = real.gather(1, place), fitness.gather(1, place)
        genes = state.archive.genes.gather(1, place[..., None].expand(-1, -1, state.space.num_genes))
        return Members(genes, real, average_rank(fitness, real), fitness)

    def _first(self, state: State) -> tuple[Tensor, Tensor]:
        """Propose some of the space's seeds, then uniform architectures, ``(R, N, L)``; with a prior, by turns its best and any."""
        pool, seeds = state.space.random(state.noise, 8 * self.initial), state.space.seeds()
        spread = torch.linspace(0, max(len(seeds) - 1, 0), min(self.initial, len(seeds))).long()
        first = seeds[spread].to(pool.device).expand(len(pool), -1, -1)
        pool = within_limits(state.problem, torch.cat([first, pool], 1), state.noise)
        if not self.priors:
            return pool, in_turn(pool)
        turn = torch.arange(pool.shape[1], device=pool.device)
        best = self._believed(state).best.expand(len(pool), -1, -1)
        turns = torch.cat([2 * turn + 1, 2 * torch.arange(best.shape[1], device=pool.device)])
        return torch.cat([pool, best], 1), -turns.double().expand(len(pool), -1)

    def _pool(self, state: State, members: Members) -> Tensor:
        """Propose uniform architectures, then denoised and corrected ones, and the space's seeds, ``(R, N, L)``."""
        space, noise = state.space, state.noise
        length = space.num_genes
        cardinalities = choices(space.cardinalities, noise.device)
        uniform = space.random(noise, self.uniform)
        u = noise.uniform(1 + 2 * len(self.signal), self.pool, length)
        if not self.denoise:
            genes = uniform_genes(u[:, 0], cardinalities)
        elif self.recombine:
            weight = self._log_weight(members)
            genes = in_parts(
                lambda *of: denoise(of[0], of[1], self.signal, cardinalities, of[2].transpose(0, 1)),
                members.genes,
                weight,
                u,
            )
        else:
            parent = roulette(self._log_weight(members), u[:, 0, :, 0].contiguous())
            genes = members.genes.gather(1, parent[..., None].expand(-1, -1, length))
        if self.correct:
            genes = changed(space, genes, self.two_genes, noise.uniform(self.pool, 1 + 2 * length))
        seeds = space.seeds().to(genes.device).expand(len(genes), -1, -1)
        return within_limits(state.problem, torch.cat([uniform, genes, seeds], 1), noise)

    def _log_weight(self, members: Members) -> Tensor:
        """``log g`` of the posterior, ``(R, M)``; uniform in an epoch without members."""
        worth = members.worth if self.weigh else torch.zeros_like(members.worth)
        return self.mapping(worth, members.real)

    def _judge(self, state: State, members: Members) -> State:
        """Revise what is believed of the fitness where the epoch has grown by enough; see :mod:`ednag.samplers.evidence`."""
        model, memory, count, space = self.surrogate, state.memory, state.known, state.space
        due = (count >= memory["judge"]).nonzero().flatten()
        if model is None or len(due) == 0:
            return state
        real = members.real[due]
        known, target = model.kernel.embed(space, members.genes[due]), normal_scores(members.rank[due], real)
        noise = declared(state.problem, members, model)[due]
        beliefs = [likeliest(model, space, *part)[0] for part in split(known, target, real, noise)]
        belief = Belief(*(joined(field) for field in zip(*beliefs, strict=True)))
        later = count + ((count - memory["epoch"]) // 8).clamp(min=4)
        new = {"judge": later[due], **belief._asdict()}
        revised = {name: memory[name].index_copy(0, due, value) for name, value in new.items()}
        return replace(state, memory={**memory, **revised})

    def _scoring(self, state: State, members: Members) -> Callable[[Tensor], Tensor]:
        """How proposals ``(R, N, L)`` are scored, ``(R, N)``: by the surrogate's bound; in turn if there is none."""
        model = self.surrogate
        if model is None:
            return lambda pool: in_turn(pool, first=self.uniform)
        space, memory, kernel = state.space, state.memory, model.kernel
        target, noise = normal_scores(members.rank, members.real), declared(state.problem, members, model)
        priors = self._believed(state) if self.priors else None
        prior = () if priors is None else (priors(members.genes, members.real),)
        belief = [memory[name] for name in Belief._fields]
        pending = self._pending(state)

        def fit(known: Tensor, target: Tensor, real: Tensor, noise: Tensor, *believed: Tensor) -> Mixture:
            nugget, factors, *prior = believed
            mixture = Belief(nugget, factors).fit(model, space, known, target, real, noise, *prior)
            return mixture if pending is None else mixture.expecting(space, pending)

        known = kernel.embed(space, members.genes)
        fitted = [fit(*part) for part in split(known, target, members.real, noise, *belief, *prior)]

        def score(pool: Tensor) -> Tensor:
            more = () if priors is None else (priors(pool, space.valid(pool)),)
            parts = split(members.real, kernel.embed(space, pool), *more)
            return joined(
                [model.bound(one.predict(*asked), real) for one, (real, *asked) in zip(fitted, parts, strict=True)]
            )

        return score

    def _pending(self, state: State) -> Tensor | None:
        """The latest ``window`` of the epoch's pending evaluations as the kernel sees them, ``(1, P, D)``, if there are any."""
        latest = pending(state)[:, -self.window :]
        if latest.shape[1] == 0 or self.surrogate is None:
            return None
        return self.surrogate.kernel.embed(state.space, latest)

    def _climb(
        self, state: State, members: Members, pool: Tensor, score: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Score a pool, and what differs in a gene or two from the best members and the best of the pool, repeatedly.

        Returns:
            the larger pool, ``(R, N, L)``, what is permitted of it, bool ``(R, N)``, and its scores, ``(R, N)``.
        """
        fine, value = permitted(state.problem, pool), score(pool)
        if self.climbs == 0:
            return pool, fine, value
        space = state.space
        u = state.noise.uniform(self.climbs, self.children, 1 + 2 * space.num_genes)
        turn = torch.arange(self.children, device=pool.device) % self.parents
        for step in range(self.climbs):
            top = value.where(fine, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, : self.parents]
            parent = pool.gather(1, top[..., None].expand(-1, -1, space.num_genes))
            if step == 0:
                parent = led_by(members, parent)
            child = changed(space, parent[:, turn], self.two_genes, u[:, step])
            pool = torch.cat([pool, child], 1)
            fine = torch.cat([fine, permitted(state.problem, child)], 1)
            value = torch.cat([value, score(child)], 1)
        return pool, fine, value

    def _believed(self, state: State) -> Priors:
        """The priors, put on the scale of ranks in this space."""
        problem, device = state.problem, state.noise.device
        return problem.derive("priors", lambda: Priors(self.priors, problem, device))

    def _propose(
        self, state: State, pool: Tensor, score: Tensor, want: Tensor, lottery: Tensor
    ) -> tuple[State, Tensor]:
        """Take the best of a pool; where it has too little that is new, look further, ``(R, k, L)``."""
        problem, archive = state.problem, state.archive
        genes, keys, ok = pick(problem, archive, pool, score, want)
        exhausted = state.memory["exhausted"].clone()
        for run in ((ok.sum(1) < want) & ~exhausted).nonzero().flatten().tolist():
            known = torch.cat([archive.keys[run], keys[run, ok[run]]])
            missing = int(want[run] - ok[run].sum())
            more = unseen(problem, known, missing, Noise([int(lottery[run])], pool.device))
            place = (~ok[run]).nonzero().flatten()[: len(more)]
            genes[run, place], ok[run, place] = more, True
            exhausted[run] = len(more) < missing and problem.space.size <= ENUMERABLE
        repeat = torch.where(archive.count[:, None, None] > 0, archive.genes[:, :1], pool[:, :1])
        return replace(state, memory={**state.memory, "exhausted": exhausted}), genes.where(ok[..., None], repeat)


LEVELS = (0.2, 0.45, 0.7, 1.0)
"""Signal levels of the reverse process, from noisy to clean."""
