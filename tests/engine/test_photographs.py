"""From a folder of pictures made here to a small network, in one command."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ednag
from ednag.cli.main import main
from ednag.engine.retraining import Retraining, trainings
from ednag.samplers.presets import CONFIGS

QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 30 pictures, of a disc and of stripes."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    yy, xx = np.mgrid[:40, :50]
    for name in ("disc", "stripes"):
        (root / name).mkdir()
        for number in range(30):
            x, y = rng.integers(15, 30, 2)
            mask = (xx - x) ** 2 + (yy - y) ** 2 < 100 if name == "disc" else np.sin(xx + x) > 0
            pixels = np.where(mask[..., None], rng.integers(0, 256, 3), rng.integers(0, 256, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def test_one_command_generates_fine_tunes_and_compares(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    config = ["--config", str(CONFIGS / "generate/photographs.yaml"), "--data.root", str(folder)]
    small = ["--data.image_size", "32", "--space.resolutions", "[32]", "--max_flops", "3e6", "--evaluations", "4"]
    quick = ["--retraining.recipe.epochs", "1", "--sampler.initial", "2", "--fitness.repeats", "1"]
    assert main(["generate", *config, *small, *quick, *QUIET, "--retrain", "--run_dir", str(run)]) == 0
    report = json.loads((run / "report.json").read_text())
    assert report["counts"]["distinct_evaluations"] == 4
    assert report["candidates"][0]["costs"]["macs"] <= 3e6
    summary = json.loads((run / "retrained/summary.json").read_text())
    assert summary["results"][0]["architecture"] == report["candidates"][0]["architecture"]
    assert [row["label"] for row in summary["baselines"]][:3] == ["linear_probe", "parent", "thin_resnet"]
    tuned, taken = (run / folder / "baseline_parent" for folder in ("parent", "retrained"))
    assert (tuned / "weights.safetensors").read_bytes() == (taken / "weights.safetensors").read_bytes()
    assert (tuned / "last.ckpt").exists()
    assert not (taken / "last.ckpt").exists()  # it was trained once, before the generation
    assert "the parent fine-tuned" in "".join(report["notes"])
    said = capsys.readouterr().out
    assert "parent: d=2,2,3,3,4,1" in said
    assert summary["verdict"] in said
    network = ednag.load(run / "retrained/001")
    assert sum(p.numel() for p in network.parameters()) == summary["results"][0]["params"]
    assert main(["generate", "--resume", str(run)]) == 0  # nothing is left to do
    assert json.loads((run / "retrained/summary.json").read_text()) == summary


def test_a_dry_run_says_what_is_trained_besides(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ednag.engine.trainer.estimate", lambda *_: "cost         1 s")
    config = ["--config", str(CONFIGS / "generate/photographs.yaml"), "--data.root", str(folder), *QUIET]
    assert main(["generate", *config, "--retrain", "--dry_run"]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "first        the parent is fine-tuned for 15 epochs (not in the cost below)",
        "cost         1 s",
        "then         1 network is trained for 15 epochs, and what they are held against (not in the cost above)",
    ]
    assert trainings(Retraining(), tuned=False, retrained=False) == ([], [])
    assert trainings(Retraining(), False, True)[1][0].startswith(
        "then         what is reported is trained for 200 epochs"
    )


def test_limits_that_nothing_meets_are_refused_before_the_parent_is_trained(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", str(CONFIGS / "generate/photographs.yaml"), "--data.root", str(folder), *QUIET]
    run = tmp_path / "run"
    assert main(["generate", *config, "--max_flops", "1e3", "--run_dir", str(run)]) == 2
    assert (
        "no network of pretrained_lite is within the limits: max_flops is 1,000, the least is"
        in capsys.readouterr().err
    )
    assert not (run / "parent").exists()


def test_retraining_needs_images(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["--space", "NASBench201", "--fitness", "ZeroCostFitness", "--fitness.proxies", "[params]"]
    ended = main(
        ["generate", *arguments, "--evaluations", "5", "--retrain", *QUIET, "--run_dir", str(tmp_path / "run")]
    )
    assert ended == 2
    assert "retrain needs images" in capsys.readouterr().err
