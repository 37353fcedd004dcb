"""Fixtures that every test room shares."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

SHARED = Path(os.environ.get("EDNAG_SHARED", Path(__file__).parents[2] / "shared"))


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
