"""Files that are damaged, hostile or of other content: one sentence that names them, soon, and nothing else."""

import json
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_tensors

from ednag.benchmarks.arrays import read_arrays
from ednag.benchmarks.importers.unpickling import read_pickle
from ednag.classify.saved import ARCHITECTURE, DIGEST, WEIGHTS, build, find, load_network, read_architecture
from ednag.core.reading import checked, matches, read_json, read_npz, read_yaml
from ednag.core.storage import load_state, save_state
from ednag.data.arrays import FashionMNIST, NumpyImages
from ednag.data.decoding import read_image
from ednag.generation.collection import load_pool, read_journal
from ednag.generation.report import Candidate, Report
from ednag.predictor.features import load_features, save_features
from ednag.predictor.task_features import read_sources
from ednag.predictor.task_rows import read_rows
from ednag.predictor.tasks import TaskDefinition, read_tasks, write_tasks
from ednag.retraining.results import METRICS, Result, read_result
from ednag.spaces import NASBench201

ROWS = {"genes": np.zeros((4, 6), np.int8), "task": np.zeros(4, np.int32), "space": np.array("nasbench201")}
CELL = NASBench201().describe(torch.tensor([1, 2, 3, 4, 0, 3]))


def write_report(path: Path) -> None:
    candidate = Candidate(CELL, [1, 2, 3, 4, 0, 3], 0.5, {"a": 1.0}, {"params": 10.0})
    Report({"class_path": "ednag.spaces.NASBench201"}, "f", [candidate]).save(path)


def write_network(path: Path) -> None:
    """A retrained network; ``path`` is its weights."""
    path.parent.mkdir(exist_ok=True)
    space = {"class_path": "ednag.spaces.NASBench201", "init_args": {}}
    about = {"space": space, "genes": [1, 2, 3, 4, 0, 3], "network": {"channels": 4, "cells": 1}, "num_classes": 3}
    about |= {"in_channels": 1, "image_size": [8, 8]}
    content = save_tensors({name: value.contiguous() for name, value in build(about).state_dict().items()})
    path.write_bytes(content)
    import hashlib

    about[DIGEST] = hashlib.sha256(content).hexdigest()
    (path.parent / ARCHITECTURE).write_text(json.dumps(about))


def write_result(path: Path) -> None:
    result = Result(1, CELL, [1, 2, 3, 4, 0, 3], 0.5, "finished", "", 1, 2, {"top1": 3.0}, {}, 1, 1.0, 1.0, 0)
    path.write_text(json.dumps(vars(result)))


def write_summary(path: Path) -> None:
    write_result(path)
    path.write_text(json.dumps({"results": [json.loads(path.read_text())]}))


def write_pickle(path: Path) -> None:
    import bz2
    import pickle

    path.write_bytes(bz2.compress(pickle.dumps({"a": [1, 2.5, "b"]})))


def write_images(path: Path) -> None:
    np.savez_compressed(path, x_train=np.arange(640, dtype=np.uint8).reshape(40, 4, 4) % 251, y_train=np.arange(40) % 2)


def read_images(path: Path) -> None:
    NumpyImages(path, image_size=4).setup()


def write_idx(folder: Path) -> None:
    import gzip

    for part in ("train", "t10k"):
        images, labels = bytes([0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0, 0, 2]), bytes([0, 0, 8, 1, 0, 0, 0, 20])
        for name, content in (
            ("images-idx3", images + bytes(80)),
            ("labels-idx1", labels + bytes(i % 10 for i in range(20))),
        ):
            (folder.parent / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(content))


def write_pool(path: Path) -> None:
    images = {"pixels": torch.zeros(4, 3, 2, 2, dtype=torch.uint8), "labels": torch.arange(4)}
    save_state(path, {"train": images, "test": images})


def journal(path: Path) -> None:
    row = {"genes": [1, 2], "valid": 1.5, "test": None, "seconds": 0.1, "seed": 3, "error": None}
    path.write_text(f"{json.dumps(row)}\n" * 3)


def write_image(path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(path)


TASK = TaskDefinition("a-000", "a", (0, 1), 8, 8, False, 0, {"train": 9})

KINDS: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], object]]] = {
    "report": ("report.json", write_report, lambda path: Report.load(path).load_space()),
    "result": (METRICS, write_result, lambda path: read_result(path.parent)),
    "summary": ("summary.json", write_summary, lambda path: find(path.parent)),
    "weights": (WEIGHTS, write_network, lambda path: load_network(path.parent, read_architecture(path.parent))),
    "tasks": ("tasks.json", lambda path: write_tasks(path, "nasbench201", [TASK]), read_tasks),
    "rows": (
        "rows.npz",
        lambda path: np.savez(path, **ROWS, valid=np.ones(4), test=np.ones(4)),
        read_rows,
    ),
    "table": ("table.npz", lambda path: np.savez_compressed(path, a=np.arange(60.0), b=np.array(["x"])), read_arrays),
    "images": ("images.npz", write_images, read_images),
    "state": ("state.pt", lambda path: save_state(path, {"a": torch.arange(9), "b": [1, {"c": 2.0}]}), load_state),
    "pool": ("pool.pt", write_pool, load_pool),
    "features": ("f.safetensors", lambda path: save_features(path, torch.ones(2, 3, 4)), load_features),
    "pickle": ("a.pickle.pbz2", write_pickle, read_pickle),
    "image": ("a.png", write_image, read_image),
    "journal": ("a.jsonl", journal, read_journal),
    "sources": (
        "collect.yaml",
        lambda path: path.write_text(
            "sources:\n  digits: {class_path: ednag.data.Digits, init_args: {image_size: 8}}\n"
        ),
        read_sources,
    ),
}


def damaged(content: bytes, draws: np.random.Generator) -> bytes:
    """Cut a file short, flip, repeat or insert some of it, or put something else in its place."""
    how = int(draws.integers(0, 6))
    place = int(draws.integers(0, len(content)))
    if how == 0:
        return content[:place]
    if how == 1:
        flipped = bytearray(content)
        for at in draws.integers(0, len(content), 1 + int(draws.integers(0, 8))):
            flipped[at] ^= 1 << int(draws.integers(0, 8))
        return bytes(flipped)
    if how == 2:
        return content[:place] + draws.bytes(int(draws.integers(1, 40))) + content[place:]
    if how == 3:
        return content[:place] + content[max(place - 30, 0) :]
    if how == 4:  # another value, where the file is a text
        values = [b"null", b"1e400", b"-1", b"NaN", b"[]", b'"x"', b"{}", b"99999999999999999999999", b"true"]
        return re.sub(rb"-?\d+(\.\d+)?", lambda m: values[int(draws.integers(0, 9))], content, count=1)
    others = [b"", b"[]", b"null", b"{}", b"PK\x03\x04", b"\x80\x02.", b"[" * 5000, b'{"a": ' * 3000, draws.bytes(99)]
    return others[int(draws.integers(0, len(others)))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_fuzz(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is done to a file, its reader accepts it or says in one sentence, soon, which file is wrong."""
    name, write, read = KINDS[kind]
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    write(path)
    read(path)
    content, draws, refused, wrong = path.read_bytes(), np.random.default_rng(len(kind)), 0, []
    for _ in range(120):
        path.write_bytes(damaged(content, draws))
        begun = time.process_time()
        try:
            read(path)
        except (ValueError, FileNotFoundError) as error:
            refused += 1
            if str(path.parent) not in str(error) or "\n" in str(error) or len(str(error)) > 700:
                wrong.append(str(error))
        assert time.process_time() - begun < 2
    assert not [text for text in wrong if "search space" not in text], wrong[:3]
    assert kind == "journal" or refused >= 60


def test_weights_with_flipped_bytes_are_refused(tmp_path: Path) -> None:
    write_network(tmp_path / WEIGHTS)
    content = bytearray((tmp_path / WEIGHTS).read_bytes())
    content[-5] ^= 4
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(ValueError, match=r"weights.safetensors is damaged or not the weights of .*its sha256 is not"):
        load_network(tmp_path, read_architecture(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (f'"{CELL}"', "null", "architecture can't be None"),
        ('"fitness": 0.5', '"fitness": 1e400', "1e400 is no finite number"),
        ('"fitness": 0.5', '"fitness": NaN', "NaN is no finite number"),
        ('"fitness": 0.5', '"fitness": "high"', "fitness can't be 'high'"),
        ('"genes": [', '"genes": [1e18,', "genes can't be"),
        ('"genes": [', '"gene": [', "gene is no field of it"),
        ('"candidates": [', '"candidates": 3, "x": [', "not iterable"),
    ],
)
def test_values_of_a_report(old: str, new: str, words: str, tmp_path: Path) -> None:
    write_report(tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text()
    assert old in text
    (tmp_path / "report.json").write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"report.json is damaged or not a report .*{words}.*; generate it again"):
        Report.load(tmp_path)


def test_sizes_are_bounded_before_they_are_allocated(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }" % 10**12
    stated = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"
    with zipfile.ZipFile(tmp_path / "stated.npz", "w") as archive:
        archive.writestr("a.npy", stated + bytes(80))
    with pytest.raises(ValueError, match=r"a.npy holds .* bytes where 8,000,000,000,0.* belong"):
        read_npz(tmp_path / "stated.npz", "a table", "fetch it")
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w") as one,
    ):
        for _ in range(300):
            one.write(bytes(2**20))
    with pytest.raises(ValueError, match="its arrays would take 314,572,800 bytes"):
        read_npz(tmp_path / "bomb.npz", "a table", "fetch it")
    (tmp_path / "long.json").write_bytes(b'"' + b"a" * 10_000 + b'"')
    with pytest.raises(ValueError, match="it has 10,002 bytes, more than 10,000"):
        read_json(tmp_path / "long.json", "a report", "shorten it", dict, most=10_000)


def test_yaml_bombs_and_circles(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="more than 100,000 values"):
        read_yaml(tmp_path / "bomb.yaml", "a configuration", "shorten it")
    (tmp_path / "circle.yaml").write_text("a: &a [*a]")
    with pytest.raises(ValueError, match="damaged or not a configuration"):
        read_yaml(tmp_path / "circle.yaml", "a configuration", "shorten it")
    (tmp_path / "good.yaml").write_text("a: &a {x: 1}\nb: *a\n")
    assert read_yaml(tmp_path / "good.yaml", "a configuration", "shorten it") == {"a": {"x": 1}, "b": {"x": 1}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_in_place_of_a_file_is_never_waited_for(kind: str, tmp_path: Path) -> None:
    name, write, read = KINDS[kind]
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    write(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises((ValueError, FileNotFoundError)):
        read(path)


def test_types_of_fields() -> None:
    assert matches({"a": 1}, dict[str, float])
    assert not matches({"a": True}, dict[str, float])
    assert not matches(2**63, int)
    assert matches(None, float | None)
    assert not matches([1, "a"], list[int])
    with pytest.raises(ValueError, match="no source"):
        checked(TaskDefinition, {"id": "a"})
    with pytest.raises(ValueError, match="expected fields by name, got 3"):
        checked(TaskDefinition, 3)


def test_fashion_mnist_files_are_bounded(tmp_path: Path) -> None:
    write_idx(tmp_path / "x")
    FashionMNIST(tmp_path, image_size=4, crop_padding=0).read()
    path = tmp_path / "train-images-idx3-ubyte.gz"
    for damage in (b"", b"no gzip", path.read_bytes()[:20]):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz is damaged or not a complete IDX file"):
            FashionMNIST(tmp_path).read()
    shutil.rmtree(tmp_path)


def test_an_architecture_of_other_content(tmp_path: Path) -> None:
    write_network(tmp_path / WEIGHTS)
    about = json.loads((tmp_path / ARCHITECTURE).read_text())
    for name, value in (("genes", None), ("num_classes", "3"), ("image_size", [8.5]), ("network", [])):
        (tmp_path / ARCHITECTURE).write_text(json.dumps({**about, name: value}))
        with pytest.raises(ValueError, match=rf"architecture.json is damaged .*{name} can't be"):
            read_architecture(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"genes": np.zeros((4, 6), np.float32)}, "must be whole numbers"),
        ({"genes": np.zeros(24, np.int8)}, "different lengths"),
        ({"genes": np.full((4, 6), 99, np.int8)}, "not of nasbench201"),
        ({"task": np.zeros(3, np.int32)}, "different lengths"),
        ({"task": np.full(4, -1, np.int32)}, "0 or more"),
        ({"valid": np.ones((4, 2))}, "different lengths"),
        ({"valid": np.full(4, np.inf)}, "must be percent"),
        ({"valid": np.array(["a"] * 4)}, ""),
        ({"test": None}, "no .*test"),
    ],
)
def test_rows_of_other_shapes_types_and_values(change: dict, words: str, tmp_path: Path) -> None:
    content = {**ROWS, "valid": np.ones(4), "test": np.ones(4), **change}
    np.savez(tmp_path / "rows.npz", **{name: value for name, value in content.items() if value is not None})
    with pytest.raises(ValueError, match=rf"rows.npz.*{words}"):
        read_rows(tmp_path / "rows.npz")


def test_lines_of_a_journal_of_other_types_and_values_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = {"genes": [1, 2], "valid": 1.5, "test": None, "seconds": 0.1, "seed": 3, "error": None}
    bad = [{"genes": [1.5, 2]}, {"genes": "12"}, {"valid": "high"}, {"seed": None}, {"seconds": True}, {"error": 3}]
    lines = [json.dumps({**good, **change}) for change in bad]
    lines += [json.dumps({k: v for k, v in good.items() if k != name}) for name in good]
    lines += [
        json.dumps(good).replace("1.5", "NaN"),
        json.dumps(good).replace("1.5", "1e999"),
        "[]",
        "null",
        '{"genes":',
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([json.dumps(good), *lines, json.dumps(good), ""]))
    assert read_journal(path) == [good, good]
    assert caplog.text.count("a.jsonl has a line that is cut short or damaged") == len(lines)
