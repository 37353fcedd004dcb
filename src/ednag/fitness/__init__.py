"""Fitness: tables, zero-cost proxies, and limits on cost. Importing them here gives each a short name."""

from ednag.fitness.base import Fitness
from ednag.fitness.benchmarks import BenchmarkFitness
from ednag.fitness.cost import Costs, count_costs, measure_latency
from ednag.fitness.latency import LatencyModel, LatencyTable
from ednag.fitness.meta import MetaFitness
from ednag.fitness.nasbench101 import NASBench101Fitness
from ednag.fitness.nasbench301 import NASBench301Fitness, NASBench301TableFitness
from ednag.fitness.objectives import ConstrainedFitness, CostModel, Limits
from ednag.fitness.regressor import RegressorFitness
from ednag.fitness.tradeoff import CostObjective
from ednag.fitness.zero_cost import ZeroCostFitness

__all__ = [
    "BenchmarkFitness",
    "ConstrainedFitness",
    "CostModel",
    "CostObjective",
    "Costs",
    "Fitness",
    "LatencyModel",
    "LatencyTable",
    "Limits",
    "MetaFitness",
    "NASBench101Fitness",
    "NASBench301Fitness",
    "NASBench301TableFitness",
    "RegressorFitness",
    "ZeroCostFitness",
    "count_costs",
    "measure_latency",
]
