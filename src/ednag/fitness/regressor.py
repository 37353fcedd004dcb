"""A regressor of accuracy as fitness."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.core.inputs import sha256
from ednag.fitness.base import Fitness
from ednag.predictor.accuracy_regressor import MEASURE, describe_space, load_regressor
from ednag.spaces import SearchSpace


class RegressorFitness(Fitness):
    """Score architectures by a regressor that ``ednag fit --config fit/ofa_accuracy`` trained.

    Args:
        checkpoint: the regressor, ``RUN/regressor.ckpt``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or no checkpoint of an :class:`ednag.predictor.accuracy_regressor.AccuracyRegressor`.

    Examples:
        >>> fitness = RegressorFitness("runs/fit/regressor.ckpt")  # doctest: +SKIP
    """

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self._model = load_regressor(checkpoint)
        self.checkpoint, self.digest = str(checkpoint), sha256(Path(checkpoint))
        self.name = f"predicted {MEASURE}"

    def setup(
        self, space: SearchSpace, data: pl.LightningDataModule | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Put the regressor on the device; see :meth:`Fitness.setup`.

        Raises:
            ValueError: if it was fitted on another space, or on one with other options.
        """
        super().setup(space, data, device)
        fitted, asked = self._model.space, describe_space(space)
        if fitted != asked:
            raise ValueError(
                f"{self.checkpoint} was fitted on {_shown(fitted)}, the search space is {_shown(asked)}; "
                "use a checkpoint of that space, or search the space of the checkpoint"
            )
        self._model.to(self.device)

    def score(self, genes: Tensor) -> Tensor:
        """Predict; see :meth:`Fitness.score`."""
        with torch.inference_mode():
            found: Tensor = self._model(self.space.features(genes.to(self.device)))
        return found.double().to(genes.device)


def _shown(space: dict[str, object]) -> str:
    """Write a space as ``mobilenetv3(width=1.0)``."""
    options = ", ".join(f"{name}={value}" for name, value in space.items() if name != "name")
    return f"{space.get('name')}({options})" if options else str(space.get("name"))
