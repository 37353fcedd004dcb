"""Fixtures that every test room shares."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

SHARED = Path(os.environ.get("EDNAG_SHARED", Path(__file__).parents[2] / "shared"))

pytest.register_assert_rewrite("ednag.testing")

CLASSES = ("airplane", "automobile", "bird")


def pytest_configure() -> None:
    os.environ.setdefault("WANDB_MODE", "offline")
    torch.set_num_threads(int(os.environ.get("EDNAG_TEST_THREADS", "1")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def shared_file(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not in EDNAG_SHARED ({SHARED})")
    return path


@pytest.fixture(scope="session")
def shared() -> "type[shared_file]":
    """Function from a name below EDNAG_SHARED to its path; skips the test where it is absent."""
    return shared_file


@pytest.fixture(scope="session")
def nasbench201() -> dict[str, np.ndarray]:
    """The benchmark's arrays."""
    with np.load(shared_file("benchmarks/nasbench201.npz"), allow_pickle=False) as table:
        return dict(table)


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
