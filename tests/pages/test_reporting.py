"""What is logged of a page, and the verb that makes it again."""

import webbrowser
from pathlib import Path

import lightning.pytorch as pl
import pytest

from ednag.cli.main import main
from ednag.engine.reporting import log_page, reopened
from ednag.pages.blocks import Chart, Page, Section, Series, Table
from ednag.pages.write import make_page
from tests.pages.test_pages import generated

PAGE = Page(
    "retrain",
    "Two networks",
    "",
    [],
    [
        Section("All", [Table("networks", ["network", "test %"], [["a|b", 90.5], ["c", None]])]),
        Section("Curves", [Chart("curve", "Curve", "epoch", "accuracy", [Series("a", [1, 2], [3, 4])])]),
    ],
)


def test_tensorboard_gets_pictures_and_tables(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = pl.loggers.TensorBoardLogger(tmp_path, name="logs")
    log_page(PAGE, [logger, pl.loggers.CSVLogger(tmp_path)])
    logger.finalize("success")
    found = events.EventAccumulator(logger.log_dir)
    found.Reload()
    assert found.Tags()["images"] == ["report/curve"]
    assert found.Images("report/curve")[0].encoded_image_string[:4] == b"\x89PNG"
    text = found.Tensors("report/networks/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.splitlines()[0] == "| network | test % |"
    assert text.splitlines()[2] == "| a\\|b | 90.5 |"


def test_wandb_gets_pictures_and_tables_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    first = pl.loggers.WandbLogger(name="run", save_dir=tmp_path, group="g")
    number = first.experiment.id
    wandb.finish()  # as the loggers of the networks do
    again = reopened(first)
    log_page(PAGE, [again])
    assert again.experiment.id == number
    summary = dict(again.experiment.summary)
    wandb.finish()
    assert set(summary) >= {"report/networks", "report/curve"}
    assert [*tmp_path.rglob("media/table/report/networks*.json")]
    assert [*tmp_path.rglob("media/images/report/curve*.png")]


def test_a_report_is_made_again_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generated(tmp_path)
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", shown.append)
    assert main(["report", str(tmp_path)]) == 0
    assert shown == []
    assert main(["report", str(tmp_path), "--open"]) == 0
    assert shown == [(tmp_path / "report.html").as_uri()]
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "holds no run that has ended" in capsys.readouterr().err
    assert make_page(tmp_path).kind == "generate"
