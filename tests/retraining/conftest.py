"""Small real images, and a report of two small networks."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from ednag.generation.report import Candidate, Report
from ednag.spaces import NASBench201

GENES = ([1, 2, 3, 4, 0, 3], [3, 1, 0, 0, 1, 2])


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning|torch")


def report_of(*genes: list[int]) -> Report:
    space = NASBench201()
    candidates = [Candidate(space.describe(torch.tensor(g)), g, 1.0 - i / 10) for i, g in enumerate(genes)]
    return Report({"class_path": "ednag.spaces.NASBench201", "init_args": {}}, "test", candidates)


@pytest.fixture
def report() -> Report:
    return report_of(*GENES)


def short_trainer(**options: object) -> Callable[..., pl.Trainer]:
    """Factory of silent Trainers."""

    def make(*, folder: Path, max_epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
        settings = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, **options}
        return pl.Trainer(
            accelerator="cpu", default_root_dir=folder, max_epochs=max_epochs, callbacks=callbacks, **settings
        )

    return make


@pytest.fixture
def silent() -> Callable[..., Callable[..., pl.Trainer]]:
    return short_trainer
