"""A retraining on photographs of all kinds of files."""

import logging
from pathlib import Path

import pytest

from ednag.cli.main import main
from tests.data.many_kinds import write_photographs
from tests.retraining.conftest import report_of


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directory of ``ednag retrain`` on them."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    folder = tmp_path_factory.mktemp("trained")
    report_of([3, 1, 0, 0, 1, 2], [2, 1, 0, 0, 1, 2]).save(folder / "report.json")
    words = [
        "retrain", "--report", str(folder / "report.json"), "--run_dir", str(folder / "run"),
        "--data", "ImageFolder", "--data.root", str(photos), "--data.image_size", "24", "--data.batch_size", "16",
        "--recipe.epochs", "3", "--network", "{channels: 4, cells: 1}", "--trainer.accelerator", "cpu",
        "--trainer.enable_progress_bar", "false",
    ]  # fmt: skip
    assert main(words) == 0
    return folder / "run"
