"""The pages of runs: made from files, self-contained, and right."""

import json
import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from ednag.core.storage import write_csv, write_json
from ednag.generation.report import Candidate, Report
from ednag.pages.blocks import Chart, Matrix, Series, Table, Thumbnails, possible_of, together
from ednag.pages.html import legend, marked
from ednag.pages.numbers import extent, log_ticks, short, shown, ticks, with_deviation
from ednag.pages.png import png
from ednag.pages.predictions_part import calibration, class_accuracies, confusion
from ednag.pages.svg import CHARACTER, chart_svg, matrix_svg
from ednag.pages.write import make_page, write_page
from ednag.retraining.predictions import Predictions

NAMES = ["cat", "dog", "<b>owl</b>", "fox"]


class Reader(HTMLParser):
    """Collects what a page refers to, its texts, and whether its tags are closed."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.tips: list[str] = []
        self.alts: list[str | None] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.links += [value for name, value in told.items() if name in ("src", "href", "srcset", "action") and value]
        self.tips += [told["data-tip"]] if told.get("data-tip") else []
        self.alts += [told.get("alt")] if tag == "img" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tips += [value for name, value in attrs if name == "data-tip" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(folder: Path) -> Reader:
    write_page(folder)
    text = (folder / "report.html").read_text()
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert "@import" not in text
    reader = Reader(text)
    assert all(link.startswith("data:") for link in reader.links)
    return reader


def predictions(count: int = 200, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)  # no image of the last class
    scores = random.random((count, 4)) + 0.6 * np.eye(4)[labels]
    scores /= scores.sum(1, keepdims=True)
    order = np.argsort(-scores, 1)
    files = np.array([f"{NAMES[label]}/{i}.jpg" for i, label in enumerate(labels)])
    return Predictions(labels, order, np.take_along_axis(scores, order, 1).astype(np.float32), files)


def result(rank: int, top1: float, label: str = "", status: str = "finished") -> dict[str, object]:
    scores = {"top1": top1, "calibration_error": 0.04} if status == "finished" else {}
    return {
        "rank": rank, "architecture": f"|net~{rank}{label}|", "genes": [1], "fitness": 0.5, "status": status,
        "reason": "" if scores else "the loss is not finite", "params": 1000 * (rank + 1), "macs": 5_000_000 * (rank + 1),
        "val": scores, "test": scores, "epochs": 3, "seconds": 90.0, "images_per_second": 100.0, "seed": 0, "label": label,
    }  # fmt: skip


@pytest.fixture
def retrained(tmp_path: Path) -> Path:
    results = [result(1, 81.5), result(2, 84.25), result(3, 0, status="failed")]
    verdict = "the generated network reaches 84.2 % on test images, random members 80.0 %"
    write_json(
        tmp_path / "summary.json", {"results": results, "baselines": [result(0, 80.0, "random_1")], "verdict": verdict}
    )
    Report({"class_path": "ednag.spaces.NASBench201"}, "score", []).save(
        tmp_path / "report.json"
    )  # beside a retraining
    split = {"images": 40, "per_class": [10, 10, 10, 10], "sha256": "ab" * 32, "of": "files"}
    write_json(
        tmp_path / "data.json",
        {
            "class": "ImageFolder",
            "origin": "photos",
            "class_names": NAMES,
            "splits": dict.fromkeys(("train", "test"), split),
        },
    )
    for place in ("001", "002", "baseline_random_1"):
        rows = [{"epoch": i, "lr": 0.1 / i, "loss": 2.0 / i, "top1": 50.0 + 10 * i} for i in (1, 2, 3)]
        write_csv(tmp_path / place / "curves.csv", rows)
    best = tmp_path / "002"
    write_json(best / "architecture.json", {"class_names": NAMES, "num_classes": 4})
    said = predictions()
    said.save(best / "predictions.npz")
    worst = said.worst(5)
    pictures = {str(i): np.full((8, 8, 3), 40 * i, np.uint8) for i in range(5)}
    np.savez(best / "mistakes.npz", images=np.array(worst), **pictures)
    return tmp_path


def test_a_retraining(retrained: Path) -> None:
    reader = read(retrained)
    text = " ".join(reader.words)
    assert "84.25 %" in text
    assert "random members 80.0 %" in text
    assert "random 1" in text
    assert "failed: the loss is not finite" in text
    assert "<b>owl</b>" in text  # as text
    assert sum(link.startswith("data:image/png") for link in reader.links) == 5
    assert len(reader.alts) == 5
    assert all(alt and alt.startswith("said ") for alt in reader.alts)
    assert "`" not in text
    assert "--report.images false" in reader.words
    assert "3 trained networks" in text
    said = predictions()
    first = said.worst(5)[0]
    assert f"said {NAMES[said.classes[first, 0]]}" in text
    assert str(said.files[first]) in text
    assert any(tip.startswith("network 2\nmultiply-accumulates 15,000,000, test 84.25 %") for tip in reader.tips)
    page = make_page(retrained)
    assert page.kind == "retrain"
    charts = {block.name: block for block in page.blocks() if isinstance(block, Chart)}
    assert [one.name for one in charts["accuracy_macs"].series] == ["generated", "random"]
    names = {block.name for block in page.blocks() if isinstance(block, (Table, Chart, Matrix))}
    assert names >= {"networks", "accuracy_macs", "curve_top1", "curve_loss", "confusion", "calibration", "classes"}


def test_pictures_can_be_left_out(retrained: Path) -> None:
    (retrained / "002" / "mistakes.npz").unlink()
    assert not any(isinstance(block, Thumbnails) for block in make_page(retrained).blocks())
    assert not any(link.startswith("data:image") for link in read(retrained).links)


def test_confusion_and_class_accuracies_are_sklearns() -> None:
    said = predictions()
    expected = confusion_matrix(said.labels, said.classes[:, 0], labels=range(4))
    assert np.array_equal(confusion(said, 4), expected)
    found = class_accuracies(said, 4)
    np.testing.assert_allclose(found[:3], np.diag(expected)[:3] / expected.sum(1)[:3], rtol=1e-6)
    assert np.isnan(found[3])


def test_calibration_adds_up_to_the_expected_calibration_error() -> None:
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    said = predictions(500)
    bins = calibration(said)
    assert sum(count for _, _, count in bins) == 500
    error = sum(count * abs(confidence - accuracy) for confidence, accuracy, count in bins) / 500
    scores = torch.zeros(500, 4).scatter(1, torch.from_numpy(said.classes), torch.from_numpy(said.probabilities))
    reference = multiclass_calibration_error(scores, torch.from_numpy(said.labels), 4, n_bins=15)
    assert error == pytest.approx(float(reference), abs=1e-6)


def test_the_worst_mistakes_are_the_surest() -> None:
    said = predictions()
    worst = said.worst(10)
    sure = said.probabilities[worst, 0]
    assert not said.correct[worst].any()
    assert (np.diff(sure) <= 0).all()
    assert sure[-1] >= np.sort(said.probabilities[~said.correct, 0])[-10]


def generated(folder: Path, front: bool = False) -> Path:
    some = [
        Candidate(f"|a~{i}|", [i], 0.9 - i / 10, {"test": 90.0}, {"params": 100 + i, "macs": 7_000_000})
        for i in range(3)
    ]
    told = {"objective": "params", "title": "parameters", "hypervolumes": []} if front else None
    Report(
        {"class_path": "x.Space"},
        "validation accuracy",
        some,
        {"runs": 2, "distinct_evaluations": 60},
        told,
        limits={"max_params": 200},
        notes=["Scores are shares."],
    ).save(folder / "report.json")
    steps = [{"step": i, "valid": 1.0, "unique": 0.9, "novel": 0.5} for i in range(5)]
    write_csv(folder / "history.csv", steps)
    progress = [{"evaluations": i, "quartile_1": 0.5, "median": 0.6, "quartile_3": 0.7 + i / 100} for i in range(1, 30)]
    write_csv(folder / "progress.csv", progress)
    (folder / "best.svg").write_text('<?xml version="1.0"?><svg viewBox="0 0 1 1"><text>cell</text></svg>')
    if front:
        rows = [
            {"architecture": f"|e~{i}|", "cost": 100 + i, "fitness": i / 50, "front": i % 9 == 0} for i in range(40)
        ]
        write_csv(folder / "evaluated.csv", rows)
    return folder


def test_a_generation(tmp_path: Path) -> None:
    reader = read(generated(tmp_path))
    text = " ".join(reader.words)
    assert "|a~0| has the best validation accuracy of 60 evaluated architectures" in text
    assert "parameters, % of 200" in text
    assert "Scores are shares." in text
    tables = {block.name: block for block in make_page(tmp_path).blocks() if isinstance(block, Table)}
    assert tables["limits"].rows[0] == [1, 50.0]
    assert any("median of 2 runs" in tip for tip in reader.tips)


def test_a_front_says_what_its_points_are(tmp_path: Path) -> None:
    reader = read(generated(tmp_path, front=True))
    assert "|e~9|\nparameters 109, fitness 0.18" in reader.tips
    assert len([tip for tip in reader.tips if tip.startswith("|e~")]) == 40


def test_a_comparison(tmp_path: Path) -> None:
    rows = [
        {
            "sampler": name,
            "runs": 30,
            "success@50": 0.5,
            "value@50": 0.5,
            "regret@50": 0.1,
            "mean_regret": r,
            "evaluations": 60.0,
            "p_value": p,
            "test mean": 93.9,
            "test sd": 0.3468,
            "valid mean": 91.23,
            "valid sd": 12.0,
        }
        for name, r, p in (("default", 0.2, None), ("random", 0.4, 0.01))
    ]
    write_json(tmp_path / "comparison.json", {"fitness": "accuracy", "rows": rows})
    curve = [
        {"sampler": row["sampler"], "evaluations": i, "quartile_1": "-inf" if i < 3 else 0.1, "median": 0.2, "quartile_3": 0.3, "success": i / 60}
        for row in rows
        for i in range(1, 61)
    ]  # fmt: skip
    write_csv(tmp_path / "curves.csv", curve)
    text = " ".join(read(tmp_path).words)
    assert "default has the least mean regret" in text
    tables = {block.name: block for block in make_page(tmp_path).blocks() if isinstance(block, Table)}
    assert list(tables["success_by_evaluations"].header) == ["sampler", "success@50"]
    assert "value_by_evaluations" not in tables  # the same as success
    assert tables["regret_by_evaluations"].rows == [["default", 0.1], ["random", 0.1]]
    assert tables["metrics"].rows[0] == ["default", "93.90 ± 0.35", "91 ± 12"]
    assert tables["budget"].rows[1][-1] == 0.01


def test_a_collection(tmp_path: Path) -> None:
    valid = np.array([50, 60, 70, np.nan, 40, 45], dtype=np.float32)
    np.savez(
        tmp_path / "rows.npz", genes=np.zeros((6, 2), np.int8), task=np.array([0, 0, 1, 1, 2, 2]), valid=valid, test=valid,
        seconds=np.full(6, 1800, np.float32), seed=np.zeros(6), space="nasbench201", budget='{"steps": 64, "network": {"cells": 1}}', versions="{}",
    )  # fmt: skip
    write_json(tmp_path / "tasks.json", {"tasks": [{"source": name} for name in ("digits", "digits", "usps")]})
    (tmp_path / "rows").mkdir()
    lines = [{"genes": [1, 2], "error": None}, {"genes": [3, 4], "error": "out of memory"}]
    (tmp_path / "rows" / "digits-1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = " ".join(read(tmp_path).words)
    assert "out of memory" in text
    assert "each training: steps 64, cells 1." in text
    tables = {block.name: block for block in make_page(tmp_path).blocks() if isinstance(block, Table)}
    assert tables["sources"].rows[0][:4] == ["digits", 2, 4, 1]
    assert tables["sources"].rows[0][5] == 60
    assert ("training, hours", "3") in make_page(tmp_path).facts


def test_a_fit(tmp_path: Path) -> None:
    curves = [{"epoch": i, "train/loss": 1 / i, "val/spearman": 0.1 * i, "val/kendall": 0.08 * i} for i in range(1, 6)]
    write_csv(tmp_path / "curves.csv", curves)
    rows = [
        {"task": task, "measured": 50 + i, "predicted": i * sign}
        for task, sign in (("a", 1), ("b", -1))
        for i in range(9)
    ]
    write_csv(tmp_path / "predicted.csv", rows)
    page = make_page(tmp_path)
    tables = {block.name: block for block in page.blocks() if isinstance(block, Table)}
    assert [row[2] for row in tables["tasks"].rows] == [pytest.approx(1), pytest.approx(-1)]
    assert ("validation Spearman", "0.5") in page.facts
    read(tmp_path)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no run that has ended"):
        make_page(tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(ValueError, match=r"summary\.json is damaged"):
        make_page(tmp_path)


def test_damaged_files_of_a_run_never_raise_anything_else(retrained: Path) -> None:
    """Every file, replaced by other content, with changed bytes, cut short, or a pipe."""
    random, told, read = np.random.default_rng(0), [], 0
    others = [b"", b"[1]", b"null", b"{}", b'{"results": 3}', b"\xff\x00", b"[" * 2000 + b"]" * 2000]
    for path in [path for path in sorted(retrained.rglob("*")) if path.is_file()]:
        content = path.read_bytes()
        changed = [bytearray(content) for _ in range(4)]
        for one in changed:
            one[int(random.integers(len(one)))] ^= int(random.integers(1, 256))
        for damaged in (*others, *changed, content[: len(content) // 2], None):
            path.unlink()
            if damaged is None:
                os.mkfifo(path)
            else:
                path.write_bytes(damaged)
            try:
                read += bool(write_page(retrained).blocks())
            except ValueError as error:
                told.append(str(error))
        path.unlink()
        path.write_bytes(content)
    assert read
    assert len(told) > 20
    assert all(str(retrained) in text for text in told), [text for text in told if str(retrained) not in text][:3]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 60, [0, 20, 40, 60]),
        (-3, 7, [-2, 0, 2, 4, 6]),
        (44, 54.5, [45, 47.5, 50, 52.5]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_no_value_along_an_axis_is_impossible() -> None:
    series = [Series("one", [1.0, 2.0], [100.0, 100.0])]
    charts = [Chart("a", "A", "epoch", "top-1 %", series, possible=bounds) for bounds in ((0, 100), (0, 200))]
    pictures = [chart_svg(chart) for chart in charts]
    assert [">104<" in picture for picture in pictures] == [False, True]
    assert all(">100<" in picture for picture in pictures)
    assert possible_of("probe accuracy (%)") == (0, 100)
    assert possible_of("log |K|") == (-math.inf, math.inf)


def test_logarithmic_ticks_numbers_and_extents() -> None:
    assert log_ticks(900, 110_000) == pytest.approx([1e3, 3e3, 1e4, 3e4, 1e5])
    assert len(log_ticks(2.1e6, 2.9e6)) >= 2
    assert [short(v) for v in (2.5e9, 1.5e6, 200_000, 0.25, 0)] == ["2.5G", "1.5M", "200k", "0.25", "0"]
    assert [shown(v) for v in (None, float("nan"), 1234567, 0.123456, 12345.6, True, "a")] == [
        "\N{EN DASH}", "\N{EN DASH}", "1,234,567", "0.1235", "12,346", "True", "a",
    ]  # fmt: skip
    assert extent([]) == (0.0, 1.0)
    assert extent([float("inf"), 3.0, 3.0]) == (pytest.approx(2.85), pytest.approx(3.15))


def test_an_axis_of_whole_numbers_has_no_halves() -> None:
    assert ticks(0.5, 12.6, whole=True) == [5, 10]
    assert ticks(0.95, 1.05, whole=True) == [1]
    assert ticks(0.5, 12.6) == [2.5, 5, 7.5, 10, 12.5]
    chart = Chart("a", "A", "task", "y", [Series("", [1, 2, 3, 12], [10, 20, 30, 40])])
    assert ">2.5<" not in chart_svg(chart)


def test_means_have_as_many_digits_as_their_deviation() -> None:
    assert [with_deviation(*pair) for pair in ((93.9, 0.3468), (91.6, 0.01399), (1234.5, 81.0), (5.0, 0.0))] == [
        "93.90 ± 0.35", "91.600 ± 0.014", "1,234 ± 81", "5.00 ± 0.00",
    ]  # fmt: skip
    assert with_deviation(float("nan"), 1.0).startswith("\N{EN DASH}")


def test_series_that_lie_on_each_other_are_all_named() -> None:
    same, nan = ([1, 2], [1.0, 1.0]), float("nan")
    series = [
        Series("valid", *same),
        Series("unique", *same),
        Series("novel", [1, 2], [1.0, nan]),
        Series("new", [1, 2], [1.0, nan]),
        Series("none", [], []),
        Series("apart", *same, "points"),
    ]
    assert [one.name for one in together(series)] == ["valid, unique", "novel, new", "apart"]
    both = [Series("a", [1], [2], "points", ["this"]), Series("b", [1], [2], "points", ["that"])]
    assert together(both)[0].tips == ["this\nthat"]
    chart = Chart("a", "A", "x", "y", series[:2])
    assert legend(chart) == [(0, "valid, unique", False)]
    assert legend(Chart("a", "A", "x", "y", series[:1])) == []
    assert "valid, unique" in chart_svg(chart)


@pytest.mark.parametrize("low", [98.5, 0.0001, 1_250_000, 0])
def test_values_along_an_axis_dont_touch_its_name(low: float) -> None:
    drawn = chart_svg(Chart("a", "A", "x", "y", [Series("", [0, 1], [low, low * 1.01 + 0.001])]))
    labels = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="end">([^<]+)<', drawn)
    assert labels
    assert all(float(x) - CHARACTER * len(text) > 22 for x, text in labels)  # the name ends at 18


def test_names_of_one_letter_stand_upright_over_a_matrix() -> None:
    drawn = matrix_svg(Matrix("m", "M", "true", "predicted", list("0123"), [[1] * 4] * 4))
    assert "rotate(-90)" not in drawn
    assert "rotate(-90)" in matrix_svg(
        Matrix("m", "M", "true", "predicted", ["german shepherd", "b"], [[1, 0], [0, 1]])
    )


def test_only_backticks_become_tags() -> None:
    assert str(marked("<b> `--top 3` & `x<y`")) == "&lt;b&gt; <code>--top 3</code> &amp; <code>x&lt;y</code>"


def test_points_are_where_they_belong() -> None:
    chart = Chart("a", "A", "x", "y", [Series("s", [0, 10], [0, 1], "points"), Series("t", [0, 10], [1, float("nan")])])
    places = re.findall(r'class="dot" cx="([\d.]+)" cy="([\d.]+)"', chart_svg(chart))
    (x0, y0), (x1, y1) = [(float(x), float(y)) for x, y in places[:2]]
    assert x0 < x1
    assert y0 > y1  # upwards
    assert len(places) == 3  # nothing is drawn for what is not a number
    assert png(chart)[:4] == b"\x89PNG"
    assert png(Matrix("m", "M", "true", "predicted", ["a", "b"], [[3, 1], [0, 2]]))[:4] == b"\x89PNG"
