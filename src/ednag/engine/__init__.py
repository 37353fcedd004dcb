"""The Lightning engine: the Trainer with the verbs, its callbacks and loggers."""

from ednag.engine.callbacks import ComparisonCallback, GenerationCallback, RetrainingCallback
from ednag.engine.trainer import Trainer

__all__ = ["ComparisonCallback", "GenerationCallback", "RetrainingCallback", "Trainer"]
