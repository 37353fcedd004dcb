"""Fitness predicted from images of the task: no training, no table, thousands of architectures per second."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from ednag.data.sampling import ShownImages, class_images
from ednag.fitness.base import Fitness, Measured
from ednag.predictor.budgets import BENCHMARK, PlannedTraining, TrainingBudget, outside
from ednag.predictor.extractors import find_extractor
from ednag.predictor.features import MOST, class_features, features_path, load_features, save_features
from ednag.predictor.knowledge import load_sources, teachers
from ednag.predictor.meta_predictor import MetaPredictor, load_predictor
from ednag.spaces import SearchSpace

log = logging.getLogger(__name__)


class MetaFitness(Fitness):
    """Score architectures by a trained meta predictor, for the data set whose images it is shown.

    A score is in standard deviations of random architectures on that data set, above their mean: only the order of
    architectures means anything. The data set's embedding is computed once from up to ``images`` training images a
    class, reduced to the resolution of the predictor's own tasks; the images' features are kept in a cache, by the
    content of the images.

    Args:
        predictor: its folder, a run of ``ednag fit``, or the name of a shipped one; the shipped one of the search space
            if omitted. :meth:`attach` gives one that has just been trained.
        beta: standard deviations of the ensemble added to its mean: above 0 prefers what the ensemble is unsure of,
            below 0 what it agrees on.
        images: of a class that are looked at, at least the predictor's coreset.
        cache: folder of the feature cache; ``$EDNAG_CACHE``, or ``ednag`` in the user's cache folder, if omitted.
        budget: the training that is planned for what is found, on these images; if omitted, the long training of the
            benchmark tables: 200 epochs on 50,000 images. A budget beyond what the predictor learned from is taken to be at
            the border, with a warning.

    Raises:
        ValueError: if ``images`` is below 1.

    Examples:
        >>> MetaFitness(beta=-1.0).name  # the shipped predictor is read, and images are looked at, in setup
        'predicted score'
    """

    name = "predicted score"

    def __init__(
        self,
        predictor: Path | str | None = None,
        beta: float = 0.0,
        images: int = MOST,
        cache: Path | None = None,
        budget: PlannedTraining | None = None,
    ) -> None:
        super().__init__()
        if images < 1:
            raise ValueError(f"images must be >= 1, got {images}")
        self.predictor, self.beta, self.images, self.cache = predictor, beta, images, cache
        self.budget = budget
        self._model: MetaPredictor | None = None
        self._digest = ""
        self._target: Measured | None = None

    def attach(self, predictor: MetaPredictor) -> None:
        """Score with this predictor, such as the module of a fit that has ended, whatever was named."""
        self._model = predictor.eval()

    def unlearn(self, target: Fitness) -> None:
        """Refuse, in :meth:`setup`, to teach about a data set whose table the predictor learned from."""
        self._target = target.measured()

    def setup(
        self, space: SearchSpace, data: pl.LightningDataModule | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Load the predictor and embed the data set; see :meth:`Fitness.setup`.

        Raises:
            FileNotFoundError: if there is no such predictor, or the extractor's weights are not here.
            ImportError: if the extractor's package is not installed.
            ValueError: if the predictor looks at images or a budget was planned, and there are no images, too few or of one
                class; or if the predictor is of another space.
        """
        super().setup(space, data, device)
        if self._model is None:
            self._model = load_predictor(self.predictor or space.name)
        model = self._model.to(self.device)
        if model.space.name != space.name:
            raise ValueError(
                f"the predictor was trained on {model.space.name} and can't score {space.name}; "
                "give one of that space, or train it: `ednag collect` in that space, then `ednag fit` on its rows"
            )
        self._refuse_own_teacher(model)
        if data is None and (model.data_encoder is not None or self.budget is not None):
            raise ValueError("a predicted fitness needs images of the task: --data ImageFolder --data.root FOLDER")
        features = None if data is None else self._look(model, data)
        budget = BENCHMARK if data is None or self.budget is None else self._planned(model, self.budget, data)
        self._code = budget.encode()
        with torch.no_grad():
            self.embedding = model.embed(features, budget=self._code)

    def score(self, genes: Tensor) -> Tensor:
        """Score distinct, valid architectures, int64 ``(n, L)``, on their device."""
        mean, deviation = self._predict(genes)
        return mean + self.beta * deviation

    def details(self, genes: Tensor) -> dict[str, Tensor]:
        """Return mean and standard deviation over the ensemble, ``(n,)`` each."""
        mean, deviation = self._predict(genes)
        return {"predicted": mean, "uncertainty": deviation}

    def state_dict(self) -> dict[str, Any]:
        """Scores so far, and what they depend on."""
        return {**super().state_dict(), "fingerprint": self._fingerprint()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved.

        Raises:
            ValueError: if it was saved with another predictor or other images.
        """
        if state["fingerprint"] != self._fingerprint():
            raise ValueError(
                "the saved scores are of another predictor or other images; resume with the same or start a new run"
            )
        super().load_state_dict(state)

    def _predict(self, genes: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = self._ready().predict_scores(genes.to(self.device), self.embedding)
        return mean.double().to(genes.device), deviation.double().to(genes.device)

    def _refuse_own_teacher(self, model: MetaPredictor) -> None:
        """Refuse a target that taught the predictor, by name and by the content of its table."""
        if self._target is None or not model.learned_from:
            return
        known = [one for one in load_sources(self.space)[0] if one.dataset in model.learned_from]
        left = teachers(known, [self._target.dataset], self._target.space, self._target.values)
        if len(left) < len(known):
            own = ", ".join(one.name for one in known if one not in left)
            raise ValueError(
                f"the predictor learned from the table of its own target ({own}), which proves nothing; "
                "leave it out of the priors, or train one without: --data.tables of `ednag fit --config fit/meta_predictor`"
            )

    def _look(self, model: MetaPredictor, data: pl.LightningDataModule) -> Tensor | None:
        """Describe the images, if the predictor looks at any."""
        if model.data_encoder is None:
            return None
        shown = class_images(data, self.images, int(model.hparams["image_size"]))
        self._digest = shown.digest()
        return self._features(model, shown).to(self.device)

    def _planned(self, model: MetaPredictor, plan: PlannedTraining, data: pl.LightningDataModule) -> TrainingBudget:
        """Work out the budget of a planned training, and warn if nothing like it was learned from."""
        budget = plan.on(data)
        if beyond := outside(budget, *model.learned_range()):
            log.warning(
                "the predictor learned from other trainings than yours (%s): it answers for the nearest it knows",
                beyond,
            )
        return budget

    def _ready(self) -> MetaPredictor:
        if self._model is None:
            raise RuntimeError("MetaFitness.setup has not been called")
        return self._model

    def _fingerprint(self) -> str:
        """Digest of the predictor's weights and the images."""
        digest = hashlib.sha256(f"{self._digest}/{self.beta}/{self._code.tolist()}".encode())
        for value in self._ready().parameters():
            digest.update(value.detach().cpu().numpy().tobytes())
        return digest.hexdigest()

    def _features(self, model: MetaPredictor, shown: ShownImages) -> Tensor:
        """Features of the images, from the cache or computed and cached, ``(K, m, F)``."""
        kind, coreset = find_extractor(str(model.hparams["extractor"])), int(model.hparams["coreset"])
        key = hashlib.sha256(f"{self._digest}/{coreset}".encode()).hexdigest()
        path = features_path(self.cache or cache_folder(), key, kind.name)
        if path.exists():
            try:
                return load_features(path)
            except ValueError as error:
                log.warning("%s", error)
        extractor = kind(self.device)
        features = class_features(shown.pixels, shown.labels, extractor, coreset, self.images, shown.names)
        try:
            save_features(path, features)
        except OSError as error:
            log.warning("image features are not cached: can't write %s (%s)", path, error.strerror)
        return features.half().float()  # as the cache gives them


def cache_folder() -> Path:
    """Where image features are kept: ``$EDNAG_CACHE``, else ``ednag`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("EDNAG_CACHE") or Path(base) / "ednag") / "features"
