"""Small real images, and a report of two small networks."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
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


@pytest.fixture(scope="session")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of stripes, 60 images each and 30 for the test: across, down, or both; colours mean nothing."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("patterns") / "patterns.npz"
    arrays = {}
    for part, each in (("train", 60), ("test", 30)):
        labels = np.repeat(np.arange(3), each)
        wave = np.sin(np.arange(32) / 2 + rng.uniform(0, 6, (len(labels), 1))) > 0
        across, down = wave[:, None, :], wave[:, :, None]
        shapes = np.where(
            (labels == 0)[:, None, None], across, np.where((labels == 1)[:, None, None], down, across ^ down)
        )
        one, other = rng.integers(0, 256, (2, len(labels), 1, 1, 3))
        pixels = np.where(shapes[..., None], one, other) + rng.normal(0, 30, (len(labels), 32, 32, 3))
        arrays |= {f"x_{part}": pixels.clip(0, 255).astype(np.uint8), f"y_{part}": labels}
    np.savez(path, **arrays)
    return path
