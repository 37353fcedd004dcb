"""Fitness: benchmark tables and what they teach about other data sets, zero-cost proxies, predictors, probes of inherited features, short trainings, and limits on cost."""

from ednag.fitness.base import Fitness
from ednag.fitness.knowledge import KnowledgeFitness
from ednag.fitness.meta import MetaFitness
from ednag.fitness.nasbench301 import NASBench301Fitness, NASBench301TableFitness
from ednag.fitness.probe import ProbeFitness
from ednag.fitness.regressor import RegressorFitness
from ednag.fitness.tabular import BenchmarkFitness, NASBench101Fitness
from ednag.fitness.training import TrainingFitness
from ednag.fitness.zero_cost import ZeroCostFitness

__all__ = [
    "BenchmarkFitness",
    "Fitness",
    "KnowledgeFitness",
    "MetaFitness",
    "NASBench101Fitness",
    "NASBench301Fitness",
    "NASBench301TableFitness",
    "ProbeFitness",
    "RegressorFitness",
    "TrainingFitness",
    "ZeroCostFitness",
]
