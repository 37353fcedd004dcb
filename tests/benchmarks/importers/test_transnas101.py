"""The importer of TransNAS-Bench-101's official file, on miniatures that the test writes in the official format."""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ednag.benchmarks.importers.transnas101 import read_transnas, read_transnas_macro, read_transnas_micro

MEASURES = {
    "class_scene": "top1",
    "class_object": "top1",
    "room_layout": "neg_loss",
    "jigsaw": "top1",
    "segmentsemantic": "mIoU",
    "normal": "ssim",
    "autoencoder": "ssim",
}
ARCHITECTURES = {
    "macro": ["64-4111-basic", "64-23443-basic", "64-133342-basic"],
    "micro": ["64-41414-3_33_212", "64-41414-0_00_000"],
}
GENES = {
    "macro": [[4, 1, 1, 1, 0, 0], [2, 3, 4, 4, 3, 0], [1, 3, 3, 3, 4, 2]],
    "micro": [[3, 3, 3, 2, 1, 2], [0, 0, 0, 0, 0, 0]],
}


def official(number: Any = float) -> dict[str, Any]:
    rng = np.random.default_rng(1)

    def result(task: str) -> dict[str, Any]:
        names = [f"{split}_{m}" for split in ("train", "valid", "test") for m in (MEASURES[task], "loss")]
        metrics = {name: [number(v) for v in rng.uniform(-1, 90, 4)] for name in names}
        metrics["time_elapsed"] = [1.0, 2.0, 3.0, 4.0]
        return {"metrics": metrics, "total_epochs": 4, "model_info": {"encoder_params": 1.5, "encoder_FLOPs": 2.5}}

    return {
        "metrics_dict": {task: [f"valid_{measure}"] for task, measure in MEASURES.items()},
        "info_names": ["encoder_params", "encoder_FLOPs"],
        "task_list": list(MEASURES),
        "data": {
            kind: OrderedDict((name, {task: result(task) for task in MEASURES}) for name in names)
            for kind, names in ARCHITECTURES.items()
        },
    }


def saved(tmp_path: Path, content: Any, **options: Any) -> Path:
    path = tmp_path / "transnas-bench_v10141024.pth"
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("number", [float, np.float64, np.float32])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_task_is_the_best_over_epochs(tmp_path: Path, number: Any, zipped: bool) -> None:
    content = official(number)
    path = saved(tmp_path, content, _use_new_zipfile_serialization=zipped)
    for kind, read in (("macro", read_transnas_macro), ("micro", read_transnas_micro)):
        arrays = read(path)
        assert arrays["genes"].tolist() == GENES[kind]
        assert arrays["genes"].dtype == np.int8
        assert ("op_names" in arrays) == (kind == "micro")
        for task, measure in MEASURES.items():
            for split in ("train", "valid", "test"):
                curves = [row[task]["metrics"][f"{split}_{measure}"] for row in content["data"][kind].values()]
                expected = np.array([max(curve) for curve in curves], dtype=np.float32)
                np.testing.assert_array_equal(arrays[f"{task}/{split}/{measure}"], expected)
        assert len([name for name in arrays if "/" in name]) == 21


def test_a_file_with_fewer_tasks(tmp_path: Path) -> None:
    content = official()
    content["task_list"] = ["jigsaw", "inpainting"]
    assert sorted(name for name in read_transnas_micro(saved(tmp_path, content)) if "/" in name) == [
        "jigsaw/test/top1",
        "jigsaw/train/top1",
        "jigsaw/valid/top1",
    ]


class Hostile:
    """Runs a command when unpickled carelessly."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    content = official()
    content["info_names"] = Hostile(tmp_path / "harm")
    with pytest.raises(ValueError, match="damaged or not the official file"):
        read_transnas_macro(saved(tmp_path, content))
    assert not (tmp_path / "harm").exists()


def test_wrong_files_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected the official transnas-bench_v10141024\.pth"):
        read_transnas_macro(tmp_path / "gone.pth")
    whole = saved(tmp_path, official()).read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2]):
        path = tmp_path / "damaged.pth"
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damaged\.pth is damaged or not the official file"):
            read_transnas_macro(path)
    for change, problem in (
        (lambda c: c.pop("data"), "lacks a part of the official format"),
        (lambda c: c["data"].pop("macro"), "lacks a part of the official format"),
        (lambda c: c["data"]["macro"]["64-4111-basic"].pop("jigsaw"), "lacks a part.*jigsaw"),
        (lambda c: c["data"].update(macro={}), "lists 0 macro architectures"),
        (lambda c: c.update(task_list=[]), "0 known tasks"),
        (lambda c: c["data"].update(macro={"64-1111-basic": {}}), "no skeleton of transnas101_macro"),
        (
            lambda c: c["data"]["macro"]["64-4111-basic"]["normal"]["metrics"].update(test_ssim=[]),
            "test_ssim of 64-4111-basic on normal is not a list of numbers",
        ),
    ):
        content = official()
        change(content)  # type: ignore[no-untyped-call]
        with pytest.raises(ValueError, match=problem):
            read_transnas(saved(tmp_path, content), "macro")
    with pytest.raises(ValueError, match="lacks a part of the official format"):
        read_transnas(saved(tmp_path, [1, 2]), "macro")
