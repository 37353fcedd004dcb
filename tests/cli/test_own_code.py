"""An error in a user's own code is told by its place in that code."""

import re
import sys
from pathlib import Path

import pytest

from ednag.cli.messages import in_own_code
from ednag.core.names import did_you_mean
from tests.cli.test_run_directory import RETRAIN, ednag

OWN = """
import torch
from torch.utils.data import DataLoader
from ednag.data import Digits

class Late(Digits):
    def train_dataloader(self):
        loader = super().train_dataloader()
        return DataLoader([(x, y) if i < 40 else FAULT for i, (x, y) in enumerate(loader.dataset)], batch_size=8)

class Raising(Digits):
    def train_dataloader(self):
        return DataLoader(Rows(), batch_size=8)

class Rows:
    def __len__(self):
        return 64
    def __getitem__(self, index):
        return torch.zeros(1, 8, 8, dtype=torch.uint8), 0 if index < 20 else {}["gone"]
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Raising", "own_images.py, line 19: KeyError: 'gone'"),
        ("Late", "a training label is not 0 to 9: Target 99 is out of bounds"),
    ],
)
def test_a_fault_while_training(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.retraining.conftest import GENES, report_of

    (tmp_path / "own_images.py").write_text(OWN.replace("FAULT", "(x, torch.tensor(99))"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_images", raising=False)
    report_of(GENES[0]).save(tmp_path / "report.json")
    args = [*RETRAIN, "--report", str(tmp_path / "report.json"), "--data", f"own_images.{name}"]
    ednag(*args, "--trainer.limit_train_batches", "1.0", "--run_dir", str(tmp_path / "r"), status=2)
    assert words in capsys.readouterr().err


def test_whose_code_raised_an_error() -> None:
    with pytest.raises(AttributeError) as caught:
        did_you_mean(None, ["a"])  # type: ignore[arg-type]
    assert in_own_code(caught.value) is None
    with pytest.raises(KeyError) as missing:
        {}["ours"]
    assert re.search(r"test_own_code.py, line \d+: KeyError: 'ours'", in_own_code(missing.value) or "")
