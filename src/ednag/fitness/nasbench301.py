"""NAS-Bench-301 (Zela et al. 2022) as fitness: its surrogate models, and the table of NAS-Bench-Suite-Zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ednag.benchmarks.arrays import open_table
from ednag.benchmarks.layouts import recognise
from ednag.benchmarks.nasbench301 import encode, load_models
from ednag.fitness.base import Fitness
from ednag.fitness.tabular import PartialTableFitness
from ednag.spaces import DARTS, SearchSpace
from ednag.spaces.base import genes_of


class NASBench301Fitness(Fitness):
    """Score DARTS genotypes by the surrogate models of NAS-Bench-301: the validation accuracy that they predict.

    The benchmark numbers the nodes of a cell, so its models may tell isomorphic genotypes apart; here all of a class
    have the prediction for its member with the smallest code, whichever was asked for first.

    Args:
        models: what ``ednag data import nasbench301`` wrote: a path, or the name of the catalogue.
        noise: whether to add what the benchmark calls noise: a normal draw with the standard deviation over the
            models, fixed for an architecture by ``seed``. Without it, the score is the mean over the models.
        seed: of the noise.

    Raises:
        FileNotFoundError: if the models are absent.
        ValueError: if the file is damaged or of another layout.
        ImportError: if the package that runs the models is not installed.

    Examples:
        >>> fitness = NASBench301Fitness("nasbench301")  # doctest: +SKIP
    """

    def __init__(self, models: str | Path = "nasbench301", noise: bool = False, seed: int = 0) -> None:
        super().__init__()
        self.noise, self.seed = noise, seed
        self.file, self.kind, self._models = load_models(models)
        self.name = f"nasbench301 surrogate ({self.kind}) valid accuracy{' with noise' if noise else ''}, %"

    def setup(
        self, space: SearchSpace, data: pl.LightningDataModule | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Prepare for scoring; see :meth:`Fitness.setup`.

        Raises:
            ValueError: if the space is not DARTS.
        """
        super().setup(space, data, device)
        _check_space(space)

    def predict(self, genes: Tensor) -> Tensor:
        """Predict with each model, nodes numbered as they are.

        Args:
            genes: int64 ``(n, 22)``.

        Returns:
            float64 ``(models, n)``, percent.
        """
        vectors = encode(DARTS().check(genes))
        return torch.from_numpy(np.stack([model.predict(vectors) for model in self._models]).astype(np.float64))

    def score(self, genes: Tensor) -> Tensor:
        """Average over the models; see :meth:`Fitness.score`."""
        keys = self.space.identity(genes)
        found = self.predict(genes_of(keys, DARTS.cardinalities)[0])
        values = found.mean(0)
        if self.noise:
            draws = [np.random.default_rng([self.seed, key]).standard_normal() for key in keys.tolist()]
            values = values + found.std(0, correction=0) * torch.tensor(draws, dtype=torch.float64)
        return values.to(genes.device)


class NASBench301TableFitness(PartialTableFitness):
    """Score DARTS genotypes by the table of NAS-Bench-Suite-Zero (Krishnakumar et al. 2022); see the base class.

    Args:
        table: what ``ednag data import zc_nasbench301`` wrote: a path, or the name of the catalogue.
        dataset: ``cifar10``, or another data set of the table.

    Raises:
        FileNotFoundError: if the table is absent.
        ValueError: if the table is damaged, of another benchmark, or lacks the data set.

    Examples:
        >>> fitness = NASBench301TableFitness("zc_nasbench301")  # doctest: +SKIP
    """

    def __init__(self, table: str | Path = "zc_nasbench301", dataset: str = "cifar10") -> None:
        file, arrays = open_table(table)
        recognise(file.path, arrays, ["zc_nasbench301"])
        names = [name for name in arrays if name.endswith("/valid/final")]
        if arrays["genotypes"].shape[1:] != (len(DARTS.cardinalities),) or not names:
            raise ValueError(
                f"{file.path} is not a table of DARTS genotypes; `ednag data import zc_nasbench301` makes one"
            )
        if f"{dataset}/valid/final" not in names:
            known = ", ".join(name.split("/")[0] for name in names)
            raise ValueError(f"the table has no validation accuracy on {dataset!r}; it has {known}")
        genes = DARTS().check(torch.from_numpy(arrays["genotypes"].astype(np.int64)))
        keys, place = torch.unique(DARTS().identity(genes), return_inverse=True)
        metrics = {name: _class_means(values, place, len(keys)) for name, values in arrays.items() if "/" in name}
        self.dataset = dataset
        super().__init__(keys, metrics, f"{dataset}/valid/final")
        self.file = file
        self.name = f"nasbench301 {dataset} valid accuracy, %"

    def setup(
        self, space: SearchSpace, data: pl.LightningDataModule | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Prepare for scoring; see :meth:`Fitness.setup`.

        Raises:
            ValueError: if the space is not DARTS.
        """
        super().setup(space, data, device)
        _check_space(space)

    @property
    def revealed(self) -> list[str]:
        """The proxies and the accuracy of the data set."""
        return [name for name in sorted(self.metrics) if name.startswith(f"{self.dataset}/")]


def _check_space(space: SearchSpace) -> None:
    if space.name != DARTS.name:
        raise ValueError(f"NAS-Bench-301 scores genotypes of {DARTS.name}, the search space is {space.name}")


def _class_means(values: NDArray[Any], place: Tensor, classes: int) -> Tensor:
    """Average the rows of each isomorphism class, float64 ``(classes,)``; NaN if none has a value."""
    known = torch.from_numpy(np.asarray(values, dtype=np.float64))
    counted = known.isfinite()
    total = torch.zeros(classes, dtype=torch.float64).index_add(0, place[counted], known[counted])
    return total / torch.bincount(place[counted], minlength=classes)
