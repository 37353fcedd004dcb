"""Runs shared out over two processes, launched as a user does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ednag.core.distributed import everyone, from_first, gather, share, world
from ednag.fitness import Fitness
from ednag.fitness.base import merge_states
from tests.cli.test_main import ednag

ROOT = Path(__file__).parents[2]


class Remembering(Fitness):
    """A score whose details are known only to the process that gave it; cells that begin with a pooling fail.

    It is of the isomorphism class, whichever member is asked for: processes meet different ones first.
    """

    name = "sum"

    def __init__(self) -> None:
        super().__init__()
        self._given: dict[int, float] = {}

    def score(self, genes: Tensor) -> Tensor:
        genes = (
            self.space.identity(genes)[:, None] // 5 ** torch.arange(5, -1, -1) % 5
        )  # the first member of each class
        if (genes[:, 0] == 4).any():
            raise ArithmeticError("pooling")
        scores = genes.double() @ torch.tensor([1.0, 2.0, 3.0, 5.0, 7.0, 11.0], dtype=torch.float64)
        self._given.update(zip(self.space.identity(genes).tolist(), scores.tolist(), strict=True))
        return scores

    def details(self, genes: Tensor) -> dict[str, Tensor]:
        return {"given": torch.tensor([self._given.get(key, torch.nan) for key in self.space.identity(genes).tolist()])}

    def state_dict(self) -> dict[str, object]:
        return {**super().state_dict(), "given": self._given}

    def load_state_dict(self, state: dict[str, dict[int, float]]) -> None:
        super().load_state_dict(state)
        self._given = dict(state["given"])


PLAN = [
    "generate", "--space", "NASBench201", "--fitness", "tests.engine.test_distributed.Remembering", "--sampler", "LocalSearch",
    "--runs", "5", "--evaluations", "30", "--max_params", "1e6", "--top_k", "4",
    "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu",
]  # fmt: skip
SHARED_OUT = ["--trainer.strategy", "ddp", "--trainer.devices", "2"]
FILES = ("report.json", "history.csv")


def launch(*args: str, save: str = "5") -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "EDNAG_RUN_DIR")}
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment |= {"EDNAG_SAVE_SECONDS": save, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ednag", *args]
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    ednag(*PLAN, "--run_dir", str(folder))
    return folder


@pytest.fixture(scope="module")
def shared_out(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("shared") / "run"
    process = launch(*PLAN, *SHARED_OUT, "--run_dir", str(folder))
    output = process.communicate(timeout=300)[0].decode()
    assert process.returncode == 0, output
    return folder, output


@pytest.mark.slow
def test_two_processes_give_the_same_report_as_one(alone: Path, shared_out: tuple[Path, str]) -> None:
    folder, output = shared_out
    for name in FILES:
        assert (folder / name).read_bytes() == (alone / name).read_bytes()
    assert output.count("architecture  ") == 1, "each process prints the table"
    assert output.count("report: ") == 1
    assert '"given": NaN' not in (folder / "report.json").read_text()
    assert '"given"' in (folder / "report.json").read_text()


@pytest.mark.slow
def test_another_number_of_processes_is_refused(
    shared_out: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    ednag("generate", "--resume", str(shared_out[0]), "--trainer.strategy", "auto", "--trainer.devices", "1", ok=False)
    assert "resume with --trainer.devices 2" in capsys.readouterr().err


def test_more_processes_than_runs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ednag(*PLAN, *SHARED_OUT, "--runs", "1", "--run_dir", str(tmp_path / "run"), ok=False)
    assert "2 devices need at least as many runs" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_of_two_processes_resumes_to_the_same_report(alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = launch(*PLAN, *SHARED_OUT, "--run_dir", str(run), save="0")
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None and steps(run) < 8:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (run / "report.json").exists(), "it was never interrupted"
    resumed = launch("generate", "--resume", str(run))
    output = resumed.communicate(timeout=300)[0].decode()
    assert resumed.returncode == 0, output
    for name in FILES:
        assert (run / name).read_bytes() == (alone / name).read_bytes()


def steps(run: Path) -> int:
    from ednag.core.storage import load_state

    path = run / "state.pt"
    return len(load_state(path)["shards"][0]["history"]) if path.exists() else 0


def test_one_process_is_the_plain_case() -> None:
    assert world() == 1
    assert share(range(3)) == range(3)
    assert gather("x") == ["x"]
    assert everyone(True)
    assert not everyone(False)
    with pytest.raises(KeyError):
        from_first(lambda: {}["missing"])


def test_merged_states_add_counts_and_unite_scores() -> None:
    a = {
        "fitness": {"known": {1: 2.0}, "lookups": 3, "evaluations": 1, "seen": torch.tensor([True, False])},
        "costs": [],
    }
    b = {"fitness": {"known": {1: 2.0, 4: 5.0}, "lookups": 4, "evaluations": 2, "seen": torch.tensor([False, False])}}
    fitness = merge_states([a, {**b, "costs": []}])["fitness"]
    assert fitness["known"] == {1: 2.0, 4: 5.0}
    assert (fitness["lookups"], fitness["evaluations"]) == (7, 3)
    assert fitness["seen"].tolist() == [True, False]
