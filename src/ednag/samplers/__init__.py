"""Samplers: evolutionary diffusion and the baselines it is compared with, behind one interface."""

from ednag.diffusion.mappings import Energy, FitnessMapping, Identity, PiecewiseLinear, Power, Rank
from ednag.diffusion.schedules import DDPM, Cosine, Levels, Linear, Schedule
from ednag.evolution.correctors import Corrector
from ednag.evolution.operators import PolynomialMutation
from ednag.samplers.ageing import RegularisedEvolution
from ednag.samplers.archive_diffusion import ArchiveDiffusion
from ednag.samplers.bananas import Bananas
from ednag.samplers.base import Sampler, State
from ednag.samplers.baselines import LocalSearch, RandomSearch
from ednag.samplers.evolutionary_diffusion import EvolutionaryDiffusion
from ednag.samplers.libraries import Nevergrad, OptunaTPE, PymooGA
from ednag.samplers.pareto_diffusion import ParetoDiffusion
from ednag.samplers.problem import FitnessFunction, Problem
from ednag.samplers.surrogate import GaussianProcess

__all__ = [
    "DDPM",
    "ArchiveDiffusion",
    "Bananas",
    "Corrector",
    "Cosine",
    "Energy",
    "EvolutionaryDiffusion",
    "FitnessFunction",
    "FitnessMapping",
    "GaussianProcess",
    "Identity",
    "Levels",
    "Linear",
    "LocalSearch",
    "Nevergrad",
    "OptunaTPE",
    "ParetoDiffusion",
    "PiecewiseLinear",
    "PolynomialMutation",
    "Power",
    "Problem",
    "PymooGA",
    "RandomSearch",
    "Rank",
    "RegularisedEvolution",
    "Sampler",
    "Schedule",
    "State",
]
