"""Precedence: defaults < configurations in their order < preset < what is typed, however and wherever it is written."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from ednag.cli.line import arrange
from ednag.cli.main import main
from ednag.core.shipped import CONFIGS

BASE = ["--space", "NASBench201", "--fitness", "ZeroCostFitness"]


def effective(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """What `ednag generate` would run."""
    with pytest.raises(SystemExit) as stop:
        main(["generate", *BASE, *words, "--print_config"])
    assert stop.value.code == 0
    return dict(yaml.safe_load(capsys.readouterr().out))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "runs: 7\nevaluations: 70\n"
        "sampler: {class_path: ednag.samplers.EvolutionaryDiffusion, init_args: {normalise: true, population: 5}}\n"
    )
    return path


@pytest.mark.parametrize("form", ["--config {}", "--config={}", "-c {}", "-c={}", "-c{}"])
def test_a_preset_wins_over_configurations_and_what_is_typed_over_both(
    form: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [form.format(config).split(), ["--preset", "paper"], ["--sampler.population", "9", "--runs", "2"]]
    for order in itertools.permutations(parts):
        ran = effective([word for part in order for word in part], capsys)
        options = ran["sampler"]["init_args"]
        assert ran["sampler"]["class_path"].endswith(".EvolutionaryDiffusion")
        assert options["population"] == 9, order  # typed
        assert options["num_steps"] == 100, order  # the preset's
        assert options["normalise"] is False, order  # the preset is a whole sampler: nothing is left of another
        assert (ran["runs"], ran["evaluations"]) == (2, 70), order  # typed; of the configuration


def test_another_class_starts_from_its_own_defaults(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for before in (["--config", str(config)], ["--preset", "default"], ["--preset", "paper"]):
        ran = effective([*before, "--sampler", "PymooGA", "--sampler.offspring", "3"], capsys)["sampler"]["init_args"]
        assert ran == {"population": 10, "offspring": 3}, before


def test_later_configurations_win_over_earlier_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, runs in (("a", 3), ("b", 4)):
        (tmp_path / f"{name}.yaml").write_text(f"runs: {runs}\n")
    a, b = f"--config={tmp_path / 'a.yaml'}", str(tmp_path / "b.yaml")
    assert effective([a, "-c", b], capsys)["runs"] == 4
    assert effective(["-c", b, a], capsys)["runs"] == 3
    assert effective([f"--config={{runs: {5}}}"], capsys)["runs"] == 5


def test_shipped_configurations_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    demo = [f"--config={CONFIGS / 'generate/demo.yaml'}"]
    for name in ("generate/demo", "generate/demo.yaml", "configs/generate/demo.yaml"):
        assert arrange(["--config", name], "generate") == demo
    (tmp_path / "generate").mkdir()
    (tmp_path / "generate/demo").write_text("runs: 1\n")
    assert arrange(["--config=generate/demo"], "generate") == [
        "--config=generate/demo"
    ]  # a file of one's own comes first


def test_the_resumed_run_comes_first(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("runs: 1\n")
    arranged = arrange(["--runs", "2", "-c", "trainer/cpu", f"--resume={tmp_path}"], "generate")
    cpu = f"--config={CONFIGS / 'trainer/cpu.yaml'}"
    assert arranged == ["--config", str(tmp_path / "config.yaml"), cpu, f"--resume={tmp_path}", "--runs", "2"]


@pytest.mark.parametrize(
    ("words", "value"),
    [(["--dry_run"], True), (["--dry_run", "true"], True), (["--dry_run=true"], True), (["--dry_run", "false"], False)],
)
def test_dry_run_is_a_flag(words: list[str], value: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert effective([*words, "--runs", "2"], capsys)["dry_run"] is value


def test_an_option_without_its_value_is_refused() -> None:
    for words in (["--config"], ["--preset", "--runs", "2"], ["-c"]):
        with pytest.raises(ValueError, match="needs a value"):
            arrange(words, "generate")
