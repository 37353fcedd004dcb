"""Trackers that are not installed, or not logged in, are one sentence, before anything is trained."""

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


def test_wandb_without_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb").teardown()  # what an earlier test has set up
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    run, config = tmp_path / "run", str(CONFIGS / "logger/wandb.yaml")
    ednag(*GENERATE, "--evaluations", "3", "--config", config, "--run_dir", str(run), status=2)
    error = capsys.readouterr().err
    assert "W&B: " in error
    assert "log in with `wandb login`, or set WANDB_MODE=offline" in error
    assert "Traceback" not in error
