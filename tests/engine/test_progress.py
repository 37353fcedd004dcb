"""One bar for a whole retraining."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from ednag.engine.progress import RetrainingBar


def train(bar: RetrainingBar, epochs: int, first: int = 0, last: int | None = None, folder: str = "001") -> None:
    """Go through the events of one training, from one epoch to another."""
    made: list[object] = []
    factory = bar.watch(lambda *, folder, max_epochs, callbacks: made.extend(callbacks))  # type: ignore[arg-type, return-value]
    factory(folder=Path(folder), max_epochs=epochs, callbacks=[])
    network = made[-1]
    for epoch in range(first, epochs if last is None else last):
        trainer = SimpleNamespace(
            current_epoch=epoch,
            max_epochs=epochs,
            num_training_batches=2,
            is_global_zero=True,
            callback_metrics={"val/top1": 50.0},
        )
        if epoch == first:
            network.on_train_start(trainer, None)
        network.on_train_epoch_start(trainer, None)
        network.on_train_batch_end(trainer, None, None, None, 0)
        network.on_train_epoch_end(trainer, None)


def test_the_bar_counts_the_epochs_of_all_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "001").mkdir()
    (tmp_path / "001" / "metrics.json").write_text("{}")  # trained before an interruption
    with RetrainingBar(tmp_path, 3, 4, shown=True) as bar:
        assert (bar.total.n, bar.total.total) == (4, 12)
        train(bar, 4, first=3)  # resumed after its third epoch
        assert bar.total.n == 8
        assert bar.total.initial == 7  # says nothing of the pace
        train(bar, 4, last=1)  # fails in its second epoch
        assert bar.total.n == 9
        train(bar, 2, folder="baseline_thin_resnet")  # was not planned
        assert (bar.total.n, bar.total.total) == (14, 14)
    error = capsys.readouterr().err
    assert "network 2 of 3" in error
    assert "baseline thin resnet:" in error
    assert "of 4" not in error
    assert "50.0 %" in error


def test_a_hidden_bar_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RetrainingBar(tmp_path, 1, 2, shown=False) as bar:
        train(bar, 2)
    assert capsys.readouterr().err == ""
