"""Small real images, and a report of two small networks."""

import logging
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from ednag.report import Candidate, Report
from ednag.spaces import NASBench201

CLASSES = ("airplane", "automobile", "bird")
GENES = ([1, 2, 3, 4, 0, 3], [3, 1, 0, 0, 1, 2])


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning|torch")


@pytest.fixture(scope="session")
def photographs(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 CIFAR-10 files of each of three classes, ``<class>/*.jpg``."""
    folder = tmp_path_factory.mktemp("photographs")
    left = dict.fromkeys(CLASSES, 30)
    with tarfile.open(shared("images/cifar10-jpeg.tar.xz")) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if member.isfile() and left.get(parts[1], 0):
                left[parts[1]] -= 1
                source = archive.extractfile(member)
                assert source is not None
                place = folder / parts[1] / parts[2]
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(source.read())
            if not any(left.values()):
                return folder
    raise AssertionError(f"the archive lacks files: {left}")


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
