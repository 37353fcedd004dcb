import json
from pathlib import Path

import pytest

from ednag.cli.output import report_table, text_table
from ednag.generation.report import Candidate, Report
from ednag.spaces import NASBench201

SPACE = {"class_path": "ednag.spaces.NASBench201", "init_args": {}}
CELL = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def report() -> Report:
    return Report(SPACE, "accuracy, %", [Candidate(CELL, [0] * 6, 10.0, {"test": 9.5}, {"params": 73306})])


def test_a_report_survives_the_disk(tmp_path: Path) -> None:
    report().save(tmp_path / "report.json")
    assert Report.load(tmp_path) == Report.load(tmp_path / "report.json") == report()
    assert isinstance(report().load_space(), NASBench201)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 0}, "version 0"),
        ({"surprise": 1}, "damaged"),
        ({"candidates": [{"genes": []}]}, "damaged"),
        ({"candidates": [7]}, "damaged"),
    ],
)
def test_other_reports_are_refused(change: dict, words: str, tmp_path: Path) -> None:
    report().save(tmp_path / "report.json")
    content = {**json.loads((tmp_path / "report.json").read_text()), **change}
    (tmp_path / "report.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=words):
        Report.load(tmp_path)


@pytest.mark.parametrize("path", ["no.such.module.Space", "ednag.spaces.Nothing", "os.abort", ""])
def test_a_space_that_can_not_be_made_is_named(path: str) -> None:
    broken = Report({"class_path": path, "init_args": {}}, "f", [])
    with pytest.raises(ValueError, match="search space"):
        broken.load_space()


def test_tables_align_numbers_and_show_what_is_missing() -> None:
    lines = text_table(["name", "n"], [["a", 1234.0], ["long", None]]).splitlines()
    assert lines == ["name      n", "----  -----", "a     1,234", "long      -"]
    assert "73,306" in report_table(report())
