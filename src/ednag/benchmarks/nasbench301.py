"""The surrogate models of NAS-Bench-301, and what they see of a genotype."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from itertools import accumulate
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ednag.benchmarks.arrays import open_table
from ednag.benchmarks.layouts import recognise
from ednag.core.inputs import InputFile
from ednag.spaces.darts import PAIRS
from ednag.spaces.darts_network import NODES

FEATURES = 56
"""Length of the vector that the surrogate models take; see :func:`encode`."""


_CELL_EDGES = sum(node + 2 for node in range(NODES))


def encode(genes: Tensor) -> NDArray[np.float64]:
    """Write genotypes as the vectors that the surrogate models of NAS-Bench-301 take.

    The benchmark describes a training by 56 hyper-parameters: first those that always count, in alphabetical order (the
    recipe, the operations of the two edges into the first node of each cell, and which two inputs each other node has),
    then the operations of the other 12 edges of each cell, sorted as text (10, 11, 12, 13, 2, ..., 9), -1 if an edge
    is absent. Choices are numbered from 0, ranges scaled to 0..1, and the recipe is always the one that the benchmark
    trained with (32 channels, 8 cells, 100 epochs).

    Args:
        genes: DARTS genotypes, int64 ``(n, 22)``, in range.

    Returns:
        ``(n, 56)``.
    """
    out = np.empty((len(genes), FEATURES))
    out[:] = _recipe()
    ends = [0, *accumulate(len(range(node + 2)) for node in range(NODES))]
    late = sorted(range(ends[1], _CELL_EDGES), key=str)
    for place, cell in enumerate(genes.cpu().numpy().reshape(len(genes), 2, -1).swapaxes(0, 1)):
        inputs = np.concatenate([np.zeros_like(cell[:, :1]), cell[:, : NODES - 1]], 1)
        edges = np.full((len(genes), _CELL_EDGES), -1.0)
        for node, pairs in enumerate(PAIRS):
            sources = np.array(pairs)[inputs[:, node]]
            for side in (0, 1):
                edges[np.arange(len(genes)), ends[node] + sources[:, side]] = cell[:, NODES - 1 + 2 * node + side]
        out[:, 10 + 2 * place : 12 + 2 * place] = edges[:, :2]
        out[:, 15 + 3 * place : 18 + 3 * place] = cell[:, : NODES - 1]
        out[:, 32 + 12 * place : 44 + 12 * place] = edges[:, late]
    return out


def _recipe() -> NDArray[np.float64]:
    """The vector of the benchmark's own recipe; the places of the architecture are 0."""
    out = np.zeros(FEATURES)
    out[0] = _scaled(log(96), log(64 - 0.49999), log(128 + 0.49999))  # batch size, logarithmic
    out[4] = _scaled(1, 1 - 0.49999, 3 + 0.49999)  # cutout: holes and length
    out[5] = _scaled(16, 1 - 0.49999, 50 + 0.49999)
    for place, value in ((14, 32), (21, 8), (27, 100)):  # channels, cells, epochs
        out[place] = _scaled(value, 1 - 0.49999, 10_000 + 0.49999)
    out[24], out[26] = log(0.025), log(0.0003)  # learning rate and weight decay
    out[25] = _scaled(0.9, 0.1, 0.99)  # momentum
    out[28] = 1e-8 / 10_000  # last learning rate
    out[31] = _scaled(log(0.2), log(0.01), log(0.7))  # mixup
    return out


def _scaled(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low)


def load_models(models: str | Path) -> tuple[InputFile, str, list[Any]]:
    """Read an imported ensemble.

    Returns:
        the file; ``xgb`` or ``lgb``; and objects whose ``predict`` maps ``(n, 56)`` arrays to ``(n,)`` percentages.

    Raises:
        FileNotFoundError: if it is absent.
        ValueError: if it is damaged or of another layout.
        ImportError: if the package is not installed.
    """
    file, arrays = open_table(models)
    path = file.path
    recognise(path, arrays, ["nasbench301"])
    kind, raw = str(arrays.get("kind", "")), [arrays[name] for name in sorted(arrays) if name.startswith("model/")]
    if kind not in READERS or not raw:
        raise ValueError(f"{path} holds no models of NAS-Bench-301; `ednag data import nasbench301` makes such a file")
    try:
        found = [READERS[kind](model.tobytes()) for model in raw]
    except ImportError:
        raise
    except Exception as error:  # the packages raise their own kinds
        raise ValueError(f"{path} is damaged: a model can't be read ({str(error)[:200]})") from None
    return file, kind, found


class XGBoostModel:
    """An XGBoost model, from its UBJSON."""

    def __init__(self, raw: bytes) -> None:
        self._package = need("xgboost")
        self._booster = self._package.Booster({"nthread": torch.get_num_threads()})
        self._booster.load_model(bytearray(raw))
        check_features(self._booster.num_features())

    def predict(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map ``(n, 56)`` to ``(n,)``."""
        return np.asarray(self._booster.predict(self._package.DMatrix(vectors), validate_features=False))


class LightGBMModel:
    """A LightGBM model, from its text."""

    def __init__(self, raw: bytes) -> None:
        package = need("lightgbm")
        self._booster = package.Booster(model_str=raw.decode())
        check_features(self._booster.num_feature())

    def predict(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map ``(n, 56)`` to ``(n,)``."""
        return np.asarray(self._booster.predict(vectors, num_threads=torch.get_num_threads()))


READERS: dict[str, type[XGBoostModel] | type[LightGBMModel]] = {"xgb": XGBoostModel, "lgb": LightGBMModel}
"""What reads the models of a kind, as the benchmark names kinds."""


def need(package: str) -> Any:
    """Import a package that is an extra.

    Raises:
        ImportError: with what to install.
    """
    try:
        return import_module(package)
    except ImportError:
        raise ImportError(
            f"the surrogate models of NAS-Bench-301 need {package}: pip install 'ednag[nasbench301]'"
        ) from None


def check_features(number: int) -> None:
    """Refuse models of another number of features.

    Raises:
        ValueError: if it is not :data:`FEATURES`.
    """
    if number != FEATURES:
        raise ValueError(
            f"the model takes {number} features, those of NAS-Bench-301 v0.9 and v1.0 take {FEATURES}: another version"
        )


def genotype_text(normal: Sequence[tuple[str, int]], reduction: Sequence[tuple[str, int]]) -> str:
    """Write two cells as :meth:`ednag.spaces.DARTS.parse` reads them."""
    return f"Genotype(normal={list(normal)}, normal_concat=range(2, 6), reduce={list(reduction)}, reduce_concat=range(2, 6))"
