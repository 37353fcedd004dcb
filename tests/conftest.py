"""Fixtures that every test room shares."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from ednag.benchmarks.locate import SHIPPED as TABLES

pytest.register_assert_rewrite("ednag.testing")

CLASSES = ("china", "digit", "flower")


def pytest_configure() -> None:
    os.environ.setdefault("WANDB_MODE", "offline")
    torch.set_num_threads(int(os.environ.get("EDNAG_TEST_THREADS", "1")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def hangups() -> Iterator[None]:
    """Let SIGHUP be heard by this process and what it starts, though the tests run under ``nohup``."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def nasbench201() -> dict[str, np.ndarray]:
    """The benchmark's arrays."""
    with np.load(TABLES / "nasbench201.npz", allow_pickle=False) as table:
        return dict(table)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 JPEG files, 32 x 32, of each of three classes, ``<class>/*.jpg``, made of scikit-learn's images."""
    folder = tmp_path_factory.mktemp("photographs")
    for name in CLASSES:
        (folder / name).mkdir()
        for place, pixels in enumerate(pictures(name)):
            Image.fromarray(pixels).save(folder / name / f"{place:02d}.jpg")
    return folder


def pictures(name: str) -> Iterator[np.ndarray]:
    """30 pictures of a class, uint8 ``(32, 32, 3)``: pieces of a photograph, or digits enlarged four times."""
    if name == "digit":
        for image in load_digits().images[:30]:
            yield np.repeat((image * 15.9).astype(np.uint8).repeat(4, 0).repeat(4, 1)[..., None], 3, -1)
        return
    photograph = load_sample_image(f"{name}.jpg")
    for place in np.random.default_rng(0).choice(13 * 20, 30, replace=False):
        row, column = 32 * (place // 20), 32 * (place % 20)
        yield photograph[row : row + 32, column : column + 32]
