"""Search spaces. Importing them all here gives each a short name on the command line."""

from ednag.spaces.base import SearchSpace
from ednag.spaces.nasbench201 import NASBench201

__all__ = ["NASBench201", "SearchSpace"]
