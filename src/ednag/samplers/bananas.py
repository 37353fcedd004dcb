"""BANANAS: an ensemble of small networks predicts fitness, mutations of the best are screened with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ednag.core.archive import feasible
from ednag.evolution.operators import mutate_some
from ednag.samplers.base import Sampler, State
from ednag.spaces import SearchSpace


class Bananas(Sampler):
    """Bayesian optimisation with an ensemble of neural predictors (White, Neiswanger & Savani 2021), batched over runs.

    A round trains ``ensemble`` fresh multilayer perceptrons on what was evaluated, proposes mutations of the best
    architectures, and pays for the ``batch`` of them that independent Thompson sampling ranks first: a candidate's rank is
    that of one draw from the normal distribution with the ensemble's mean and standard deviation for it.

    As in the paper: path encoding (:meth:`ednag.spaces.SearchSpace.features`, where a space has one), mutation of the best
    for candidates, absolute percentage error as the loss, 10 random architectures first, 5 networks, 10 a round. Not as in
    the paper: networks of two hidden layers instead of ten, and the lower bound of the loss, which here lies as far above
    the best fitness seen as the median lies below it, times ``bound``, since the true one is not known.

    Args:
        initial: uniform architectures at the start.
        batch: evaluations per round.
        ensemble: networks.
        width: units of each of the two hidden layers.
        epochs: full-batch steps of Adam a round; with ``window``, they bound the cost of a round.
        rate: learning rate.
        parents: best architectures that are mutated.
        candidates: mutations that are screened, one or two genes each.
        bound: see above; the smaller, the more the top counts.
        window: architectures that are learned from: the best half and the latest of the others.
        encoding: what the networks see: ``paths``, with one-hot genes where a space has no features, or ``one-hot``.

    Examples:
        >>> from ednag.spaces import NASBench201
        >>> def fitness(genes, valid):
        ...     return (genes == 3).sum(-1).double().where(valid, -torch.inf)
        >>> Bananas(epochs=10).sample(NASBench201(), fitness, evaluations=20).archive.count
        tensor([20])
    """

    def __init__(
        self,
        initial: int = 10,
        batch: int = 10,
        ensemble: int = 5,
        width: int = 20,
        epochs: int = 100,
        rate: float = 0.02,
        parents: int = 10,
        candidates: int = 100,
        bound: float = 0.1,
        window: int = 256,
        encoding: Literal["paths", "one-hot"] = "paths",
    ) -> None:
        counts = {"initial": initial, "batch": batch, "ensemble": ensemble, "width": width, "epochs": epochs}
        for name, value in {**counts, "parents": parents}.items():
            if value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        if candidates < batch or window < 2 or rate <= 0 or bound <= 0:
            raise ValueError(
                f"need candidates >= batch, window >= 2, rate > 0, bound > 0; got {candidates}, {window}, {rate}, {bound}"
            )
        if encoding not in ("paths", "one-hot"):
            raise ValueError(f"encoding must be 'paths' or 'one-hot', got {encoding!r}")
        self.initial, self.batch, self.ensemble, self.width = initial, batch, ensemble, width
        self.epochs, self.rate, self.bound, self.window = epochs, rate, bound, window
        self.parents, self.candidates, self.encoding = parents, candidates, encoding

    def ask(self, state: State) -> tuple[State, Tensor]:
        """Propose random architectures at first, then the most promising mutations."""
        if state.step == 0:
            return state, state.space.random(state.noise, self.initial)
        known = self._known(state)
        pool = self._mutations(state, known)
        mean, deviation = self._predict(state, known, pool)
        gap = mean + deviation * state.noise.normal(pool.shape[1])
        valid = state.space.valid(pool)
        keys = state.problem.key(pool.where(valid[..., None], 0))
        gap = gap.masked_fill(~valid | ~state.archive.unseen(keys), torch.inf)
        best = gap.argsort(dim=1, stable=True)[:, : self.batch]
        return state, pool.gather(1, best[..., None].expand(-1, -1, pool.shape[-1]))

    def tell(self, state: State, genes: Tensor, fitness: Tensor) -> State:
        """Learn nothing: the archive has it all."""
        return replace(state, memory={})

    def encode(self, space: SearchSpace, genes: Tensor) -> Tensor:
        """What the networks see of architectures, float32 ``(*B, N, F)``."""
        features = space.features(genes) if self.encoding == "paths" else genes[..., :0].float()
        return features if features.shape[-1] else space.layout.encode(genes)

    def _known(self, state: State) -> Known:
        """Look back over the archive, at most ``window`` places, the best first."""
        archive, most = state.archive, max(int(state.archive.count.max()), 1)
        real, fitness = archive.filled[:, :most], archive.fitness[:, :most]
        lowest = torch.finfo(fitness.dtype).min
        order = fitness.clamp(min=lowest).where(real, -torch.inf).argsort(dim=1, descending=True, stable=True)
        if most > self.window:
            top = order[:, : self.window // 2]
            latest = torch.arange(most, device=order.device).expand_as(real).where(real, -1)
            latest = latest.scatter(1, top, -1).argsort(dim=1, descending=True, stable=True)
            order = torch.cat([top, latest[:, : self.window - self.window // 2]], 1)
        genes = archive.genes[:, :most].gather(1, order[..., None].expand(-1, -1, archive.genes.shape[-1]))
        return Known(genes, fitness.gather(1, order), real.gather(1, order))

    def _mutations(self, state: State, known: Known) -> Tensor:
        """Change one or two genes of the best, and add some uniform architectures, ``(R, N, L)``."""
        length = state.space.num_genes
        u = state.noise.uniform(self.candidates, 2 + 2 * length)
        number = known.real.sum(1, keepdim=True).clamp(1, self.parents)
        parent = torch.minimum((u[..., 0] * number).long(), number - 1)
        genes = known.genes.gather(1, parent[..., None].expand(-1, -1, length))
        cardinalities = torch.tensor(state.space.cardinalities, device=genes.device)
        changes = 1 + (u[..., 1] < 0.5).long()
        mutants = mutate_some(genes, cardinalities, changes, u[..., 2 : 2 + length], u[..., 2 + length :])
        return torch.cat([mutants, state.space.random(state.noise, self.batch)], 1)

    def _predict(self, state: State, known: Known, pool: Tensor) -> tuple[Tensor, Tensor]:
        """Train the ensembles of all runs; mean and deviation of the predicted gap to the best, float64 ``(R, N)``."""
        runs, seen, asked = len(pool), self.encode(state.space, known.genes), self.encode(state.space, pool)
        inputs, hidden = seen.shape[-1], self.width
        shapes = ((inputs, hidden), (1, hidden), (hidden, hidden), (1, hidden), (hidden, 1), (1, 1))
        noise = state.noise.normal(self.ensemble, sum(a * b for a, b in shapes))
        parts = torch.split(noise, [a * b for a, b in shapes], -1)
        gap, weight = self._targets(known)
        with torch.inference_mode(False), torch.enable_grad():
            weights = [
                (part.clone().view(runs * self.ensemble, *shape) * (2 / shape[0]) ** 0.5 * (shape[0] > 1))
                .detach()
                .requires_grad_()
                for part, shape in zip(parts, shapes, strict=True)
            ]
            x, y, w = (self._repeat(part) for part in (seen, gap[..., None].float(), weight[..., None].float()))
            optimizer = torch.optim.Adam(weights, self.rate)
            for _ in range(self.epochs):
                loss = ((_forward(x, weights) - y).abs() * w).sum()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        with torch.no_grad():
            predicted = _forward(self._repeat(asked), weights).view(runs, self.ensemble, -1).double()
        return predicted.mean(1), predicted.std(1, correction=0)

    def _targets(self, known: Known) -> tuple[Tensor, Tensor]:
        """Distance to the best, in units of the median's; weights for the absolute percentage error, of sum 1."""
        value, ok = known.fitness, known.real & feasible(known.fitness)
        best = value.where(ok, -torch.inf).amax(1, keepdim=True)
        gap = (best - value).where(ok, torch.nan)
        unit = gap.nanmedian(1, keepdim=True).values.nan_to_num(1.0)
        unit = torch.where(unit > 0, unit, 1.0)
        worst = (gap / unit).nan_to_num(0.0).amax(1, keepdim=True) + 1  # where what failed is put
        gap = torch.where(ok, (gap / unit).nan_to_num(0.0), worst)
        weight = (1 / (gap + self.bound)).where(known.real, 0.0)
        return gap, weight / weight.sum(1, keepdim=True).clamp(min=1e-12)

    def _repeat(self, part: Tensor) -> Tensor:
        """Hand the same data to each network of a run, ``(R, M, F)`` to ``(R E, M, F)``; usable in training."""
        return part.clone().repeat_interleave(self.ensemble, 0)


class Known(NamedTuple):
    """What the predictors learn from.

    Attributes:
        genes: int64 ``(R, M, L)``, the best first.
        fitness: float64 ``(R, M)``.
        real: which entries count, bool ``(R, M)``.
    """

    genes: Tensor
    fitness: Tensor
    real: Tensor


def _forward(x: Tensor, weights: list[Tensor]) -> Tensor:
    """Run the multilayer perceptrons, ``(B, M, F)`` to ``(B, M, 1)``."""
    for w, b in zip(weights[0:4:2], weights[1:4:2], strict=True):
        x = functional.relu(torch.baddbmm(b, x, w))
    return torch.baddbmm(weights[5], x, weights[4])
