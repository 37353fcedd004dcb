"""A directory that another process writes into: every verb that would write there is refused, and says who has it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ednag.benchmarks import fetch
from tests.cli.test_run_directory import ednag

RUNS = {
    "generate": ["--space", "NASBench201", "--fitness", "BenchmarkFitness", "--evaluations", "4"],
    "retrain": ["--report", "report.json", "--data", "Digits"],
    "compare": ["--config", "compare/nasbench201-cifar10"],
    "collect": ["--config", "collect/nasbench201"],
    "fit": ["--config", "fit/ofa_accuracy"],
    "validate": ["--config", "fit/ofa_accuracy"],
    "test": ["--config", "fit/ofa_accuracy"],
    "predict": ["--config", "fit/ofa_accuracy"],
}
"""A line of each verb that has a run directory."""

HOLD = """
import sys, time
from pathlib import Path
from ednag.core.ownership import Ownership
owned = [Ownership(Path(folder)) for folder in sys.argv[1:]]
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A folder, and the process that has it and the folder ``export`` in it."""
    folder = tmp_path_factory.mktemp("held")
    (folder / "export").mkdir()
    command = [sys.executable, "-c", HOLD, str(folder), str(folder / "export")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield folder, process.pid
    process.kill()
    process.wait()


def refused(held: tuple[Path, int], capsys: pytest.CaptureFixture[str], *line: str) -> None:
    """The verb ends with 2, names the process, and has changed nothing."""
    folder, pid = held
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    ednag(*line, status=2)
    error = capsys.readouterr().err
    assert f"is in use by process {pid} on " in error, error
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.slow
@pytest.mark.parametrize("verb", RUNS)
def test_the_second_of_two_runs(verb: str, held: tuple[Path, int], capsys: pytest.CaptureFixture[str]) -> None:
    folder = held[0]
    refused(held, capsys, verb, *RUNS[verb], "--run_dir", str(folder))
    (folder / "config.yaml").write_text(f"# ednag {verb}\nseed_everything: 0\n")
    refused(held, capsys, verb, "--resume", str(folder), *RUNS[verb])
    (folder / "config.yaml").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["generate", "retrain", "compare", "collect", "fit"])
def test_a_run_of_another_verb_names_its_own(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = "fit" if verb == "generate" else "generate"
    (tmp_path / "config.yaml").write_text(f"# ednag {own}\nspace: NASBench201\n")
    ednag(verb, "--resume", str(tmp_path), status=2)
    assert f"holds a run of `ednag {own}`; continue it with: ednag {own} --resume {tmp_path}" in capsys.readouterr().err


def test_a_page_is_not_made_of_a_run_that_is_under_way(
    held: tuple[Path, int], capsys: pytest.CaptureFixture[str]
) -> None:
    (held[0] / "comparison.json").write_text("[]")
    refused(held, capsys, "report", str(held[0]))


def test_two_exports_into_one_folder(held: tuple[Path, int], capsys: pytest.CaptureFixture[str]) -> None:
    from tests.core.test_reading import write_network

    write_network(held[0] / "weights.safetensors")
    refused(held, capsys, "export", str(held[0]), "--formats", "[safetensors]")
    refused(held, capsys, "export", str(held[0]), "--output", str(held[0] / "export"))


def test_two_downloads_into_one_folder(held: tuple[Path, int]) -> None:
    name = next(iter(fetch.ADDRESSES))
    with pytest.raises(ValueError, match=f"in use by process {held[1]} .*or choose another --folder"):
        fetch.download(name, held[0])


@pytest.mark.skipif(os.name != "posix", reason="no such locks")
def test_an_export_leaves_no_lock_and_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    from tests.core.test_reading import write_network

    write_network(tmp_path / "001" / "weights.safetensors")
    (tmp_path / "001" / "export" / ".onnx.x.part").mkdir(parents=True)
    others = tmp_path / "others" / ".movie.part"
    others.parent.mkdir()
    others.write_bytes(b"half")
    ednag("export", str(tmp_path / "001"), "--formats", "[safetensors]")
    ednag("export", str(tmp_path / "001"), "--formats", "[safetensors]", "--output", str(others.parent))
    names = {"README.md", "architecture.json", "preprocessing.json", "weights.safetensors"}
    assert {path.name for path in (tmp_path / "001" / "export").iterdir()} == names
    assert {path.name for path in others.parent.iterdir()} == {*names, others.name}
