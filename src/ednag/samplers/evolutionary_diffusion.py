"""Evolutionary diffusion in continuous space, as published (EDNAG, arXiv 2504.17827)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ednag.diffusion.gaussian import clean_estimate, ddim_step
from ednag.diffusion.mappings import Energy, FitnessMapping
from ednag.diffusion.schedules import Cosine, Schedule
from ednag.evolution.correctors import Corrector
from ednag.evolution.operators import PolynomialMutation, min_max
from ednag.samplers.base import Sampler, State
from ednag.spaces.base import Layout, SearchSpace


class EvolutionaryDiffusion(Sampler):
    """DDIM whose denoiser is the fitness of the population, with an evolutionary corrector after each step.

    A step denoises the population (the parents, whose fitness is known), mutates the outcome, evaluates these ``N``
    children, and selects the next population from parents and children. The presets ``paper`` and ``released-code`` are
    arguments of this class.

    Args:
        population: ``N``, members of a run.
        num_steps: ``T``, reverse steps.
        noise_scale: ``s``, stochasticity of a step, in ``[0, 1]``.
        schedule: signal levels.
        mapping: fitness to denoising weight.
        mutation: variation of the corrector.
        corrector: survivor selection; without one there is no mutation either.
        denoise: whether to denoise at all (an ablation: without it, only the corrector works).
        normalise: stretch every member to [-1, 1] after denoising and after mutation, as the released program does.
        layout: width of the continuous genes: the ``published`` one, or ``compact`` without constant rows.

    Examples:
        >>> from ednag.spaces import NASBench201
        >>> def fitness(genes, valid):
        ...     return (genes == 3).sum(-1).double().where(valid, -torch.inf)
        >>> state = EvolutionaryDiffusion(population=10, num_steps=5).sample(NASBench201(), fitness)
        >>> state.step
        6
    """

    def __init__(
        self,
        population: int = 30,
        num_steps: int = 100,
        noise_scale: float = 0.8,
        schedule: Schedule | None = None,
        mapping: FitnessMapping | None = None,
        mutation: PolynomialMutation | None = None,
        corrector: Corrector | None = None,
        denoise: bool = True,
        normalise: bool = False,
        layout: Literal["published", "compact"] = "published",
    ) -> None:
        if population < 2 or not 0 <= noise_scale <= 1:
            raise ValueError(f"need population >= 2 and noise_scale in [0, 1], got {population} and {noise_scale}")
        self.population, self.num_steps, self.noise_scale = population, num_steps, noise_scale
        self.alphas = (schedule or Cosine()).alphas(num_steps).tolist()
        self.mapping = mapping or Energy()
        self.mutation = mutation or PolynomialMutation()
        self.corrector, self.denoise, self.normalise = corrector, denoise, normalise
        self.layout_name = layout

    @property
    def steps(self) -> int:
        """One round scores the initial noise, then one a reverse step."""
        return self.num_steps + 1

    def layout(self, space: SearchSpace) -> Layout:
        """Places of the genes in the continuous vector."""
        return space.published_layout if self.layout_name == "published" else space.layout

    def ask(self, state: State) -> tuple[State, Tensor]:
        """Propose noise at first; later what denoising and mutation make of the population, ``(R, N, L)``."""
        layout = self.layout(state.space)
        if state.step == 0:
            x = self._normalised(state.noise.normal(self.population, layout.dim))
        else:
            x = self._denoised(state)
            if self.corrector is not None:
                choose, u = state.noise.uniform(2, *x.shape[1:]).unbind(1)
                x = self._normalised(self.mutation(x, choose, u))
        return replace(state, memory={**state.memory, "children": x}), layout.decode(x)

    def tell(self, state: State, genes: Tensor, fitness: Tensor) -> State:
        """Select the next population from parents and children; without a corrector, the children are it."""
        x = state.memory["children"]
        if state.step > 0 and self.corrector is not None:
            x, fitness = torch.cat([state.memory["x"], x], 1), torch.cat([state.memory["fitness"], fitness], 1)
            keep = self.corrector(x, fitness, self.population, state.noise.uniform(x.shape[1]))
            x = x.gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
            fitness = fitness.gather(1, keep)
        return replace(state, memory={"x": x, "fitness": fitness})

    def _denoised(self, state: State) -> Tensor:
        """Take one reverse step from the population, ``(R, N, D)``."""
        x = state.memory["x"]
        if not self.denoise:
            return x
        level = self.num_steps + 1 - state.step
        alpha, alpha_next = self.alphas[level], self.alphas[level - 1]
        clean = clean_estimate(x, x, self.mapping(state.memory["fitness"]), alpha)
        noise = state.noise.normal(*x.shape[1:])
        return self._normalised(ddim_step(x, clean, alpha, alpha_next, noise, self.noise_scale))

    def _normalised(self, x: Tensor) -> Tensor:
        return min_max(x) if self.normalise else x
