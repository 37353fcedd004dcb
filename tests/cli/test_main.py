"""The verbs as a user runs them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from ednag import load
from ednag.cli.main import main
from ednag.core.shipped import CONFIGS
from ednag.data import Digits
from ednag.fitness import KnowledgeFitness
from ednag.predictor.budgets import PlannedTraining
from ednag.spaces import NASBench201

ROOT = Path(__file__).parents[2]
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
PROXY = [
    "generate",
    "--space",
    "NASBench201",
    "--fitness",
    "ZeroCostFitness",
    "--fitness.proxies",
    "[naswot,params]",
    "--fitness.batch_size",
    "8",
    "--fitness.network",
    "{channels: 4, cells: 1}",
    "--data",
    "Digits",
    "--data.image_size",
    "8",
    "--sampler",
    "RegularisedEvolution",
    "--sampler.population",
    "5",
    "--sampler.tournament",
    "3",
    "--evaluations",
    "12",
    "--top_k",
    "2",
    *QUIET,
]


def ednag(*args: str, ok: bool = True) -> None:
    """Run a verb in this process."""
    before = sys.argv
    sys.argv = ["ednag", *args]
    try:
        assert main() == (0 if ok else 2)
    finally:
        sys.argv = before


@pytest.fixture(scope="module")
def proxy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proxy") / "run"
    ednag(*PROXY, "--run_dir", str(folder))
    return folder


def test_generate_writes_a_whole_run(proxy_run: Path) -> None:
    report = json.loads((proxy_run / "report.json").read_text())
    assert report["counts"]["distinct_evaluations"] == 12
    assert len(report["candidates"]) == 2
    first = report["candidates"][0]
    assert first["architecture"].startswith("|")
    assert len(first["genes"]) == 6
    assert {"naswot", "params"} <= set(first["scores"])
    assert first["costs"]["params"] > 0
    assert first["fitness"] >= report["candidates"][1]["fitness"]
    manifest = json.loads((proxy_run / "manifest.json").read_text())
    assert manifest["seeds"] == [0]
    assert manifest["versions"]["torch"]
    assert manifest["seconds"]["generation"] > 0
    assert manifest["sampler"]["class"] == "RegularisedEvolution"
    assert (manifest["sampler"]["population"], manifest["sampler"]["preset"]) == (5, None)
    rows = list(csv.DictReader((proxy_run / "history.csv").open()))
    assert float(rows[-1]["evaluations"]) == 12
    assert float(rows[-1]["best"]) == pytest.approx(first["fitness"])
    assert (proxy_run / "generation.png").read_bytes()[:4] == b"\x89PNG"
    assert list((proxy_run / "logs").rglob("metrics.csv"))


@pytest.mark.slow
def test_images_alone_are_scored_by_what_tables_teach(tmp_path: Path) -> None:
    images = ["--data", "Digits", "--data.image_size", "16"]
    ednag(
        "generate", "--space", "NASBench201", *images, "--evaluations", "30", "--run_dir", str(tmp_path / "run"), *QUIET
    )
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["fitness"] == "expected score"
    taught = KnowledgeFitness(budget=PlannedTraining())  # as `retrain` would train it
    taught.setup(NASBench201(), Digits(image_size=16))
    scores = taught.score(torch.tensor([one["genes"] for one in report["candidates"]])).tolist()
    assert [one["fitness"] for one in report["candidates"]] == pytest.approx(sorted(scores, reverse=True), abs=1e-5)


@pytest.mark.slow
def test_the_saved_config_runs_the_same_again(proxy_run: Path, tmp_path: Path) -> None:
    ednag("generate", "--config", str(proxy_run / "config.yaml"), "--run_dir", str(tmp_path / "again"))
    for name in ("report.json", "config.yaml", "history.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (proxy_run / name).read_bytes()


@pytest.mark.slow
def test_a_finished_run_resumes_to_the_same_report(proxy_run: Path) -> None:
    before = (proxy_run / "report.json").read_bytes()
    ednag("generate", "--resume", str(proxy_run))
    assert (proxy_run / "report.json").read_bytes() == before


@pytest.mark.slow
def test_retrain_and_export_the_best(proxy_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "retrained"
    config = str(CONFIGS / "retrain" / "digits.yaml")
    options = ["--report", str(proxy_run / "report.json"), "--recipe.epochs", "2", "--top_k", "1", *QUIET]
    ednag("retrain", "--config", config, *options, "--run_dir", str(run), "--network", "{channels: 4, cells: 1}")
    assert "test top-1 %" in capsys.readouterr().out
    summary = json.loads((run / "summary.json").read_text())["results"]
    assert len(summary) == 1
    assert summary[0]["status"] == "finished"
    assert summary[0]["test"]["top1"] > 15  # ten classes
    assert json.loads((run / "manifest.json").read_text())["counts"] == {"architectures": 1, "finished": 1}
    before = (run / "summary.json").read_bytes()
    ednag("retrain", "--resume", str(run))
    assert (run / "summary.json").read_bytes() == before
    ednag("export", str(run / "001"), "--formats", "[safetensors]")
    assert load(run / "001")(torch.zeros(1, 1, 16, 16)).shape == (1, 10)


@pytest.mark.slow
def test_epochs_of_a_retraining_are_the_recipe_s(
    proxy_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, report = str(CONFIGS / "retrain" / "digits.yaml"), str(proxy_run / "report.json")
    options = ["--trainer.max_epochs", "1", "--run_dir", str(tmp_path / "run")]
    ednag("retrain", "--config", config, "--report", report, *options, ok=False)
    assert "use --recipe.epochs" in capsys.readouterr().err


@pytest.mark.slow
def test_a_retraining_that_fails_says_why(proxy_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, report = str(CONFIGS / "retrain" / "digits.yaml"), str(proxy_run / "report.json")
    options = [
        "--report",
        report,
        "--recipe.lr",
        "1e30",
        "--top_k",
        "1",
        *QUIET,
        "--network",
        "{channels: 4, cells: 1}",
    ]
    ednag("retrain", "--config", config, *options, "--run_dir", str(tmp_path / "run"), ok=False)
    out, error = capsys.readouterr()
    assert " failed: " in out
    assert "no network was trained to the end" in error
    ednag("export", str(tmp_path / "run" / "001"), "--formats", "[safetensors]", ok=False)
    assert "its training failed" in capsys.readouterr().err


@pytest.mark.slow
def test_dry_run_prints_the_plan_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ednag(*PROXY, "--dry_run")
    out = capsys.readouterr().out
    assert "12 distinct architectures" in out
    assert "ms per evaluation" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--evaluations", "0"], "evaluations must be >= 1"),
        (["--runs", "0"], "runs >= 1"),
        (["--top_k", "0"], "top_k"),
        (["--max_params", "-3"], "max_params"),
        (["--max_params", "10"], "(max_params 10; the least that was seen is "),
        (["--preset", "nonsense"], "unknown preset 'nonsense'; allowed:"),
        (["--resume", "nowhere"], "holds no run to resume"),
        (["--data", "null"], "data"),
        (["--fitness.proxies", "[naswott]"], "naswott"),
        (["--run_dir", "/proc/no"], "can't write into"),
    ],
)
def test_a_mistake_gets_one_clear_line(
    args: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ednag(*PROXY, *args, ok=False)
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("report.json"))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--space", "NASBench999"], "space: no class 'NASBench999' is known"),
        (["--fitness", "NoSuchFitness"], "fitness: no class 'NoSuchFitness' is known"),
        (["--sampler.population", "many"], "population"),
        (["--evaluations", "abc"], "evaluations: expected int or null, got 'abc'"),
        (["--fitness.nonsense", "3"], "Option 'nonsense' is not accepted"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--fitness", "BenchmarkFitness", "--fitness.table", __file__], "is damaged or not a benchmark table"),
    ],
)
def test_what_the_parser_refuses_names_the_argument(
    args: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ednag(*PROXY, *args, ok=False)
    error = capsys.readouterr().err
    assert words in error
    assert "Subtypes" not in error
    assert "usage:" not in error


@pytest.mark.slow
def test_a_run_directory_is_never_reused(proxy_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ednag(*PROXY, "--run_dir", str(proxy_run), ok=False)
    assert "already holds a run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_directory_whose_run_never_began_can_be_used(tmp_path: Path) -> None:
    run = ["--run_dir", str(tmp_path / "run")]
    ednag(*PROXY, "--data", "null", *run, ok=False)
    ednag(*PROXY, "--evaluations", "3", *run)
    assert (tmp_path / "run" / "report.json").exists()


@pytest.mark.parametrize("content", ["{}", "not json", '{"version": 99, "candidates": []}'])
def test_a_report_that_is_none_is_refused(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text(content)
    args = ["--report", str(tmp_path / "report.json"), "--data", "Digits", "--run_dir", str(tmp_path / "r"), *QUIET]
    ednag("retrain", *args, ok=False)
    assert "report" in capsys.readouterr().err


def test_data_list_names_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    ednag("data", "list")
    out = capsys.readouterr().out
    assert "nasbench201" in out
    assert "licence" in out.lower()


VERBS = ("generate", "retrain", "compare", "fit", "collect")
EXAMPLES = [(verb, path) for verb in VERBS for path in sorted(CONFIGS.glob(f"{verb}/*.yaml"))]
EXAMPLES += [("fit", CONFIGS / "pipeline.yaml")]


@pytest.mark.parametrize(("verb", "path"), EXAMPLES, ids=[f"{verb}-{path.stem}" for verb, path in EXAMPLES])
def test_every_shipped_config_parses(verb: str, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = ["--report", "runs/x/report.json"] if verb == "retrain" else []
    with pytest.raises(SystemExit) as stop:
        ednag(verb, "--config", str(path), *report, "--print_config")
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert set(yaml.safe_load(path.read_text())) <= set(printed)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(CONFIGS.glob("presets/*.yaml")), ids=lambda path: path.stem)
def test_every_preset_runs(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = [
        "--space",
        "NASBench201",
        "--fitness",
        "ZeroCostFitness",
        "--fitness.proxies",
        "[params]",
        "--data",
        "Digits",
    ]
    options = ["--preset", path.stem, "--evaluations", "60", "--run_dir", str(tmp_path / "run"), *QUIET]
    ednag("generate", *table, *options)
    out = capsys.readouterr().out
    assert "report:" in out
    assert f"(the preset {path.stem})" in out
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["sampler"]["preset"] == path.stem


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(CONFIGS.glob("logger/*.yaml")) + sorted(CONFIGS.glob("trainer/c*.yaml")),
                         ids=lambda path: path.stem)  # fmt: skip
def test_every_fragment_goes_with_generate(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    ednag(*PROXY, "--config", str(path), "--evaluations", "6", "--run_dir", str(tmp_path / "run"))
    if path.stem == "wandb":
        assert list((tmp_path / "run").rglob("*.wandb"))
    if path.stem == "tensorboard":
        assert list((tmp_path / "run").rglob("events.out*"))


@pytest.mark.slow
def test_generate_killed_at_three_points_ends_with_the_same_report(proxy_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "ednag"]
    environment = {**os.environ, "EDNAG_SAVE_SECONDS": "0", "PYTHONPATH": str(ROOT / "src")}
    start = [*command, *PROXY, "--run_dir", str(run)]
    for kill_after, how in ((2, signal.SIGKILL), (5, signal.SIGTERM), (9, signal.SIGKILL)):
        process = subprocess.Popen(start, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None and saved_steps(run) < kill_after - 1:
            time.sleep(0.01)
        process.send_signal(how)
        assert process.wait() == (143 if how == signal.SIGTERM else -how)
        assert (run / "config.yaml").exists()
        start = [*command, "generate", "--resume", str(run)]
    assert not (run / "report.json").exists(), "it was never interrupted"
    subprocess.run(start, env=environment, check=True, capture_output=True)
    assert (run / "report.json").read_bytes() == (proxy_run / "report.json").read_bytes()
    assert (run / "history.csv").read_bytes() == (proxy_run / "history.csv").read_bytes()


def saved_steps(run: Path) -> int:
    from ednag.core.storage import load_state

    path = run / "state.pt"
    return len(load_state(path)["history"]) if path.exists() else 0
