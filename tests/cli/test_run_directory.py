"""A run directory has one owner, and means the same from anywhere."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ednag.cli.main import main

QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
GENERATE = [
    *["generate", "--space", "NASBench201", "--data", "Digits", "--data.image_size", "8", "--top_k", "2"],
    *["--fitness", "ZeroCostFitness", "--fitness.proxies", "[params]", "--fitness.network", "{channels: 4, cells: 1}"],
    *["--sampler", "RandomSearch", "--cost.network", "{channels: 4, cells: 1}", *QUIET],
]
RETRAIN = [
    *["retrain", "--data", "Digits", "--data.image_size", "8", "--recipe.epochs", "1", "--top_k", "1", *QUIET],
    *["--network", "{channels: 4, cells: 1}", "--trainer.limit_train_batches", "2"],
]


def ednag(*args: str, status: int = 0) -> None:
    before = sys.argv
    try:
        assert main(list(args)) == status
    finally:
        sys.argv = before


@pytest.mark.slow
def test_a_second_run_and_a_second_resume_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    ednag(*GENERATE, "--evaluations", "4", "--run_dir", str(run))
    before = (run / "report.json").read_bytes()
    hold = "import sys, time; from pathlib import Path; from ednag.core.ownership import Ownership;"
    hold += "o = Ownership(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", hold, str(run)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    other.stdout.readline()
    try:
        for args in ([*GENERATE, "--evaluations", "4", "--run_dir", str(run)], ["generate", "--resume", str(run)]):
            ednag(*args, status=2)
            assert f"is in use by process {other.pid} on " in capsys.readouterr().err
        ednag(*RETRAIN, "--report", str(run), "--run_dir", str(run), status=2)
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    ednag("generate", "--resume", str(run))
    assert (run / "report.json").read_bytes() == before


@pytest.mark.slow
def test_home_and_other_working_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("run_dir: ~/run\nevaluations: 5\n")
    ednag(*GENERATE, "--config", "run.yaml")
    run = tmp_path / "home" / "run"
    assert {"report.json", "config.yaml", "logs", "manifest.json"} <= {path.name for path in run.iterdir()}
    assert not (tmp_path / "~").exists()
    ednag(*RETRAIN, "--report", "home/run", "--run_dir", "trained")
    assert yaml.safe_load((tmp_path / "trained/config.yaml").read_text())["report"] == str(run)
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "trained").rename("moved")
    run.rename(tmp_path / "home/moved")
    (tmp_path / "elsewhere/moved/001/metrics.json").unlink()  # as if killed before the end
    before = json.loads(Path("moved/summary.json").read_text())["results"][0]
    ednag("retrain", "--resume", "moved")
    after = json.loads(Path("moved/summary.json").read_text())["results"][0]
    assert {name: after[name] for name in ("test", "val", "genes")} == {n: before[n] for n in ("test", "val", "genes")}
    ednag("generate", "--resume", "~/moved", "--evaluations", "9")
    ednag("generate", "--resume", "~/moved")  # the larger budget is the run's own from now on
    assert json.loads((tmp_path / "home/moved/report.json").read_text())["counts"]["distinct_evaluations"] == 9
    whole = tmp_path / "whole"
    ednag(*GENERATE, "--evaluations", "9", "--run_dir", str(whole))
    for name in ("report.json", "history.csv", "config.yaml"):
        assert (whole / name).read_bytes() == (tmp_path / "home/moved" / name).read_bytes()


@pytest.mark.slow
def test_a_kill_within_the_first_write_leaves_a_new_directory(tmp_path: Path) -> None:
    run = tmp_path / "run"
    code = """
import os, signal, sys
from ednag.cli import main, run_directory
def write(path, make):
    (path.parent / f".{path.name}.x.part").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
run_directory.atomic_write = write
main.main(sys.argv[1:])
"""
    command = [*GENERATE, "--evaluations", "3", "--run_dir", str(run)]
    assert subprocess.run([sys.executable, "-c", code, *command]).returncode == -signal.SIGKILL
    assert {path.name for path in run.iterdir()} == {".lock", ".config.yaml.x.part"}
    ednag(*command)
    assert (run / "report.json").exists()
    assert not list(run.glob(".*.part"))
    assert os.access(run / "config.yaml", os.R_OK)


BAD = [
    "a: [",
    "a: &a [*a]",
    "\x00",
    '"' + "x" * 2**21 + '"',
    "runs: 1\nruns: 2",
    "data: {a: 1, a: 2}",
    "",
    "- a",
    "1: 2",
    "resume: r",
]


@pytest.mark.parametrize("content", BAD)
def test_damaged_configurations_are_named(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.yaml").write_text(content)
    ednag(*GENERATE, "--config", str(tmp_path / "bad.yaml"), status=2)
    assert f"{tmp_path / 'bad.yaml'} is damaged or not a configuration" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "meant"), [("evaluation", "evaluations"), ("trainer.max_epoch", "trainer.max_epochs")]
)
def test_a_misspelt_option_in_a_configuration(
    typed: str, meant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(f"{typed}: 3\n")
    ednag(*GENERATE, "--config", str(tmp_path / "a.yaml"), status=2)
    assert f"ednag generate has no option '{typed}' (did you mean {meant}" in capsys.readouterr().err


@pytest.mark.parametrize("runs", ["10000000", "1e18", "0"])
def test_numbers_of_runs_are_bounded(runs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ednag(*GENERATE, "--evaluations", "3", "--runs", runs, "--run_dir", str(tmp_path / "run"), status=2)
    assert "runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("max_params", ".inf", "max_params must be a finite number, got inf"),
        ("max_params", "1e400", "max_params must be a finite number, got inf"),
        ("trainer.gradient_clip_val", ".nan", "trainer.gradient_clip_val must be a finite number, got nan"),
        ("trainer.max_steps", 2**70, f"trainer.max_steps must be a number of at most 63 bits, got {2**70}"),
        ("seed", 2**64, f"seed must be a number of at most 63 bits, got {2**64}"),
        ("evaluations", 10**18, f"evaluations must be >= 1 (at most 1,000,000,000,000), got {10**18}"),
        ("evaluations", "1e3", "evaluations: expected int or null, got "),
        ("runs", ".nan", "runs: expected int, got nan"),
        ("trainer.accumulate_grad_batches", 0, "trainer.accumulate_grad_batches must be >= 1, got 0"),
        ("trainer.check_val_every_n_epoch", -1, "trainer.check_val_every_n_epoch must be >= 1, got -1"),
        ("trainer.val_check_interval", 0, "trainer.val_check_interval must be above 0"),
        ("trainer.devices", 99999, "on this machine's CPU, got 99999"),
        ("trainer.devices", "[0, 0]", "trainer: `devices` selected with `CPUAccelerator` should be an int > 0"),
        ("cost.init_args.repeats", 0, "repeats, num_classes and sides of images must be >= 1"),
    ],
)
def test_numbers_that_nothing_can_mean_are_refused_before_the_run(
    option: str, value: object, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = f"{value}\n"
    for name in reversed(option.split(".")):
        content = f"{{{name}: {content.strip()}}}"
    (tmp_path / "a.yaml").write_text(content)
    run = tmp_path / "run"
    given = [] if option in ("evaluations", "runs") else ["--evaluations", "3"]
    ednag(*GENERATE, *given, "--config", str(tmp_path / "a.yaml"), "--run_dir", str(run), status=2)
    assert words in capsys.readouterr().err
    assert not run.exists()


def test_epochs_mean_nothing_to_generate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--evaluations", "3", "--trainer.max_epochs", "2", "--run_dir", str(tmp_path / "run")]
    ednag(*GENERATE, *more, status=2)
    assert "generate has no epochs, got trainer.max_epochs 2; --evaluations says" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--recipe.epochs", "x"], "recipe.epochs: expected int, got x\n"),
        (["--data.mean", "[x]"], "data.mean: expected float or null, got "),
        (["--recipe.optimizer", "Foo"], "recipe.optimizer: no class 'Foo' is known; name one of"),
        (["--recipe.lr", "1e400"], "recipe.lr must be a finite number, got inf"),
        (["--trainer.max_steps", "1"], "trainer.max_steps is 1, but the recipe says how long"),
        (["--network", "{channels: 0}"], "network option channels must be a whole number from 1 to 4,096, got 0"),
        (["--trainer.limit_train_batches", "0"], "nothing would be trained"),
        (["--data.image_size", "400000000"], "this machine has"),
    ],
)
def test_options_of_a_retraining_are_named(
    args: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.retraining.conftest import GENES, report_of

    report_of(GENES[0]).save(tmp_path / "report.json")
    ednag(*RETRAIN, "--report", str(tmp_path / "report.json"), *args, "--run_dir", str(tmp_path / "r"), status=2)
    assert words in capsys.readouterr().err
    built = words.startswith("network option")  # that one is met where it is built, on an executor
    assert built or not (tmp_path / "r").exists()


@pytest.mark.parametrize("callback", ["StochasticWeightAveraging", "LearningRateFinder", "BackboneFinetuning"])
def test_callbacks_that_interfere_with_a_recipe(
    callback: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.retraining.conftest import GENES, report_of

    report_of(GENES[0]).save(tmp_path / "report.json")
    options = "{swa_lrs: 0.1}" if callback == "StochasticWeightAveraging" else "{}"
    given = f"[{{class_path: {callback}, init_args: {options}}}]"
    args = ["--report", str(tmp_path / "report.json"), "--trainer.callbacks", given, "--run_dir", str(tmp_path / "r")]
    ednag(*RETRAIN, *args, status=2)
    assert f"{callback} changes how long, how fast or what a network learns" in capsys.readouterr().err
