"""Fitness: tables, zero-cost proxies, and limits on cost. Importing them here gives each a short name."""

from ednag.fitness.base import Fitness
from ednag.fitness.benchmarks import BenchmarkFitness
from ednag.fitness.objectives import ConstrainedFitness, CostModel, Limits
from ednag.fitness.zero_cost import ZeroCostFitness

__all__ = ["BenchmarkFitness", "ConstrainedFitness", "CostModel", "Fitness", "Limits", "ZeroCostFitness"]
