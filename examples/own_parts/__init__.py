"""A package of a user's own: a search space, a fitness, a mapping and a sampler that ednag knows nothing of."""

from own_parts.fitness import RidgeProbe
from own_parts.mapping import TopShare
from own_parts.sampler import Marginals
from own_parts.space import Chain

__all__ = ["Chain", "Marginals", "RidgeProbe", "TopShare"]
