"""What the command line says of itself, and of misspelt words."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ednag import __version__
from ednag.cli.main import main
from ednag.cli.messages import say_mistake
from ednag.cli.output import text_table
from ednag.cli.verbs import VERBS


def told(words: list[str], capsys: pytest.CaptureFixture[str], status: int = 0) -> str:
    """What `ednag` prints, on both streams."""
    try:
        ended = main(words)
    except SystemExit as stop:
        ended = stop.code
    out, error = capsys.readouterr()
    assert ended == status, error
    return out + error


def test_help_names_every_verb_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(["--help"], capsys)
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    assert list(lines) == list(VERBS)
    for name in ("generate", "retrain", "data", "export", "configs", "demo"):
        assert VERBS[name].line in lines[name]
    assert max(map(len, text.splitlines())) <= 100
    assert "Lightning Trainer" not in text
    assert told([], capsys) == text
    assert told(["--version"], capsys) == f"ednag {__version__}\n"


RUNNING = [name for name, verb in VERBS.items() if verb.target == "ednag.cli.trainer:run"]


@pytest.mark.parametrize("verb", RUNNING)
def test_a_verb_s_help_shows_its_own_options_and_how_to_see_lightning_s(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = told([verb, "--help"], capsys)
    lines = text.splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith(f"usage: ednag {verb} ")
    assert "--trainer.max_epochs" not in text
    assert text.split()[-1] == "--trainer.help"
    assert ("--preset" in text) == (verb in ("generate", "collect"))
    assert "--trainer.max_epochs" in told([verb, "--trainer.help"], capsys)


@pytest.mark.parametrize("verb", [name for name in VERBS if name not in RUNNING])
def test_the_other_verbs_have_help_too(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told([verb, "--help"], capsys).startswith(f"usage: ednag {verb}")


INTERNAL = (
    "ConstrainedFitness",
    "JournalledTraining",
    "PartialTableFitness",
    "Seeds",
    "ImageClassifier",
    "ImageDataModule",
)


@pytest.mark.parametrize(
    ("option", "some"),
    [
        ("fitness", ["BenchmarkFitness", "MetaFitness", "TrainingFitness", "ZeroCostFitness"]),
        ("space", ["DARTS", "NASBench201"]),
        ("sampler", ["ArchiveDiffusion", "RandomSearch"]),
        ("data", ["CIFAR10", "Digits", "ImageFolder"]),
    ],
)
def test_an_option_lists_its_choices(option: str, some: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = told(["generate", f"--{option}.help"], capsys)
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith("  ")}
    assert set(some) <= set(lines)
    assert not set(INTERNAL) & set(lines)
    assert all(len(line) > 15 for line in lines.values())
    one = told(["generate", f"--{option}.help", some[0]], capsys)
    assert f"--{option} {some[0]}:" in one


def test_what_a_predictor_is_made_of_is_offered_where_one_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    assert "MetaData" in told(["fit", "--data.help"], capsys)
    assert "MetaData" not in told(["generate", "--data.help"], capsys)
    assert "MetaPredictor" in told(["fit", "--model.help"], capsys)
    assert "--recipe.epochs" in told(["retrain", "--recipe.help"], capsys)


GENERATE = ["generate", "--space", "NASBench201", "--fitness", "ZeroCostFitness"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["genrate"], "unknown verb 'genrate' (did you mean generate?)"),
        (["--versoin"], "unknown option '--versoin'"),
        (["data", "lst"], "unknown verb 'lst' (did you mean list?)"),
        (["data", "list", "nasbench21"], "no data called 'nasbench21' (did you mean nasbench201"),
        (["configs", "show", "generate/dmeo"], "(did you mean generate/demo"),
        (["generate", "--space", "NASBench21"], "no class 'NASBench21' is known (did you mean NASBench201"),
        (["generate", "--space.help", "NASBench21"], "'NASBench21' (did you mean NASBench201"),
        ([*GENERATE, "--fitness", "ZeroCost"], "no class 'ZeroCost' is known (did you mean ZeroCostFitness?)"),
        ([*GENERATE, "--preset", "papr"], "unknown preset 'papr' (did you mean paper?); allowed: default, paper"),
        ([*GENERATE, "--evaluatons", "3"], "--evaluatons 3 (did you mean --evaluations?)"),
        ([*GENERATE, "--fitness.proxie", "x"], "'proxie' is not accepted by ZeroCostFitness (did you mean proxies?)"),
        (
            [*GENERATE, "--objective", "parms"],
            "objective: expected 'params', 'flops', 'latency_ms' or null, got 'parms'",
        ),
        (["compare", "--preset", "paper"], "compare takes no --preset"),
        (["retrain"], "ednag retrain needs --report"),
        (["fit"], "fit needs a model"),
        (["export"], "run"),
        (["data", "import", "nasbench201"], "source"),
    ],
)
def test_a_misspelt_word_gets_the_nearest_names(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = told(words, capsys, status=2)
    assert expected in text
    assert len(text.splitlines()) == 2  # the sentence, and how to see where
    assert not list(tmp_path.iterdir())


def test_a_failed_start_leaves_no_run_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for options in (["--top_k", "0"], ["--fitness.proxies", "[nonsense]"], ["--evaluations", "0"]):
        told([*GENERATE, *options, "--run_dir", "run"], capsys, status=2)
        assert not (tmp_path / "run").exists()
        told([*GENERATE, *options], capsys, status=2)
        assert not list((tmp_path / "runs").iterdir())


def test_configurations_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    listed = told(["configs"], capsys)
    assert "generate/demo " in listed
    assert "The recipe of NAS-Bench-101 (Ying et al. 2019, table 1)" in listed
    assert set(told(["configs", "fit"], capsys).split()) > {"fit/meta_predictor", "fit/ofa_accuracy"}
    assert "class_path: ednag.spaces.NASBench201" in told(["configs", "show", "generate/demo"], capsys)


def test_one_entry_of_the_data_is_told_as_typed(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(["data", "list", "nasbench201"], capsys)
    assert text.startswith("nasbench201: NAS-Bench-201")
    assert "cifar100:" not in text


HEAD = ["architecture", "parameters", "score", "status"]
ROWS = [["|nor_conv_3x3~0|+" * 6, 81090, 0.99, "finished"], ["short", None, 0.5, "failed"]]


def test_a_table_fits_the_terminal_and_loses_nothing() -> None:
    for width in (80, 40):
        lines = text_table(HEAD, ROWS, width).splitlines()
        assert max(map(len, lines)) <= width
        assert sum(line.count("~") for line in lines) == 6  # the whole architecture
        for part in (*HEAD, "81,090", "0.99", "finished", "failed"):
            assert any(part in line for line in lines), part


def test_a_table_that_is_not_for_a_terminal_has_one_line_a_row() -> None:
    lines = text_table(HEAD, ROWS).splitlines()
    assert len(lines) == 4
    assert lines[2].split("  ")[0] == ROWS[0][0]


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["configs"], ["data", "list"]])
def test_light_verbs_import_no_torch(words: list[str]) -> None:
    code = (
        "import sys; import ednag; from ednag.cli.main import main; "
        f"main({words!r}); heavy = {{'torch', 'torchvision', 'lightning', 'numpy'}} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "x/state.pt"),
            "the disk has no room for x/state.pt (No space",
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            "the disk has no room for more (Disk quota exceeded); free some",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "x"),
            "can't use x (Permission denied); choose another place",
        ),
        (OSError(errno.EROFS, "Read-only file system", "a", None, "b"), "can't use b (Read-only file system); choose"),
        (OSError(errno.ENOTDIR, "Not a directory", "x/y"), "x/y: Not a directory"),
        (MemoryError(), "there is not enough memory for this"),
    ],
)
def test_errors_of_the_machine_are_told_in_a_sentence(error: Exception, words: str) -> None:
    assert say_mistake(error).startswith(words)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("output", "status", "said"), [(">/dev/full", 2, "the disk has no room"), (">&-", 0, ""), (">&- 2>&- <&-", 0, "")]
)
def test_what_is_said_where_output_leads_nowhere(output: str, status: int, said: str, unbuffered: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m ednag --version {output}"
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environment)
    assert ended.returncode == status
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "ignored" not in ended.stderr
    assert bool(ended.stderr) == bool(said)


def test_a_reader_that_has_enough_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ednag", "--version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 128 + signal.SIGPIPE
