"""Trackers that are not installed, or not logged in, are one sentence, before anything is trained."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lightning_utilities.core.imports import RequirementCache

from ednag.samplers.presets import CONFIGS
from tests.cli.test_run_directory import GENERATE, ednag


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_missing_extra_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lightning.fabric.loggers import tensorboard as fabric
    from lightning.pytorch.loggers import wandb

    monkeypatch.setattr(wandb, "_WANDB_AVAILABLE", RequirementCache("wandb>=999"))
    monkeypatch.setattr(fabric, "_TENSORBOARD_AVAILABLE", RequirementCache("tensorboard>=999"))
    monkeypatch.setattr(fabric, "_TENSORBOARDX_AVAILABLE", RequirementCache("tensorboardX>=999"))
    run = tmp_path / "run"
    config = str(CONFIGS / f"logger/{name}.yaml")
    ednag(*GENERATE, "--evaluations", "3", "--config", config, "--run_dir", str(run), status=2)
    error = capsys.readouterr().err
    assert f"{name} is not installed; install it with: pip install 'ednag[{name}]'" in error
    assert "Traceback" not in error
    assert not run.exists()


def test_wandb_without_a_login(tmp_path: Path) -> None:
    """In a process of its own: W&B remembers the mode of earlier runs."""
    pytest.importorskip("wandb")
    own = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_SILENT": "true"}
    environment = {k: v for k, v in os.environ.items() if k not in ("WANDB_API_KEY", "WANDB_MODE")} | own
    run, config = tmp_path / "run", str(CONFIGS / "logger/wandb.yaml")
    command = [*GENERATE, "--evaluations", "3", "--config", config, "--run_dir", str(run)]
    ended = subprocess.run([sys.executable, "-m", "ednag", *command], env=environment, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "W&B: " in ended.stderr
    assert "log in with `wandb login`, or set WANDB_MODE=offline" in ended.stderr
    assert "Traceback" not in ended.stderr
