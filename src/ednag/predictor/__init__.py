"""Predictors that are trained with ``ednag fit``, and their data."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ednag.predictor.accuracy_regressor import AccuracyRegressor, MeasuredNetworks
    from ednag.predictor.meta_data import MetaData
    from ednag.predictor.meta_predictor import MetaPredictor

__all__ = ["AccuracyRegressor", "MeasuredNetworks", "MetaData", "MetaPredictor"]

_PLACES = {
    "AccuracyRegressor": "accuracy_regressor",
    "MeasuredNetworks": "accuracy_regressor",
    "MetaData": "meta_data",
    "MetaPredictor": "meta_predictor",
}


def __getattr__(name: str) -> Any:
    """Import a class when it is first used: its module imports others of this package."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
