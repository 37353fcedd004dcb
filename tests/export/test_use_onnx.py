"""What a stranger gets: a program that needs onnxruntime, numpy and Pillow, and is right to the image."""

import ast
import csv
import io
import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from ednag import load
from ednag.classify.saved import find
from ednag.cli.classify import run as classify
from ednag.cli.line import arrange
from ednag.export.model_card import FOLDERS, interval, model_card
from ednag.export.run import PROGRAM, export
from ednag.retraining.predictions import Predictions

pytest.importorskip("onnxruntime")


def program(folder: Path) -> ModuleType:
    spec = spec_from_file_location("use_onnx", folder / "use_onnx.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def said_of(trained: Path, photos: Path) -> tuple[Predictions, list[Path]]:
    best = Path(trained) / "001"
    said = Predictions.load(best / "predictions.npz")
    return said, [photos / name for name in said.files]


def test_it_needs_three_packages_only() -> None:
    names = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(PROGRAM.read_text()))
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "PIL"}


@pytest.mark.parametrize("include", [False, True])
def test_it_gets_the_reports_accuracy_to_the_image(include: bool, trained: Path, photos: Path, tmp_path: Path) -> None:
    export(trained / "001", ["onnx"], tmp_path, include_preprocessing=include)
    said, files = said_of(trained, photos)
    assert len({path.suffix for path in files}) >= 4
    found = program(tmp_path).predict(files)
    assert np.array_equal(found.argmax(1), said.classes[:, 0])
    np.testing.assert_allclose(np.sort(found, 1)[:, ::-1], said.probabilities, atol=1e-4)
    accuracy = json.loads((trained / "001" / "metrics.json").read_text())["test"]["top1"]
    assert 100 * (found.argmax(1) == said.labels).mean() == pytest.approx(accuracy, abs=1e-4)
    np.testing.assert_allclose(found, load(trained / "001").predict(files), atol=1e-4)


def test_it_reads_every_kind_of_file_as_training_does(trained: Path, photos: Path, tmp_path: Path) -> None:
    export(trained / "001", ["onnx"], tmp_path)
    read, how = program(tmp_path).read, load(trained / "001").preprocessing
    files = [*photos.rglob("*.*")]
    odd = [path.name for path in files if not np.array_equal(read(path), how.read(path).numpy())]
    assert odd == []


def test_it_runs_as_a_program(trained: Path, photos: Path, tmp_path: Path) -> None:
    export(trained / "001", ["onnx"], tmp_path, include_preprocessing=True)
    image = photos / "sea" / "turned6.jpg"
    shown = subprocess.run(
        [sys.executable, tmp_path / "use_onnx.py", image], capture_output=True, text=True, check=True, env={}
    ).stdout.strip()
    name, *classes = shown.split("\t")
    assert name == str(image)
    best = load(trained / "001").predict(image)[0].argmax()
    assert classes[0].split()[0] == ["dusk", "meadow", "sea"][best]


@pytest.mark.parametrize("opset", [18, 21, 23])
def test_opset_and_batch_size_are_free(opset: int, trained: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    export(trained / "001", ["onnx"], tmp_path, include_preprocessing=True, opset=opset)
    model = onnx.load(tmp_path / "network.onnx")
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == opset
    assert [dim.dim_param != "" for dim in model.graph.input[0].type.tensor_type.shape.dim] == [
        True,
        False,
        False,
        False,
    ]
    with pytest.raises(ValueError, match="opset must be from 18 to 23, got 9"):
        export(trained / "001", ["onnx"], tmp_path, opset=9)


@pytest.mark.parametrize("opset", [18, None])
def test_a_file_that_scales_images_itself_agrees_with_the_report(
    opset: int | None, trained: Path, photos: Path, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    (done,) = export(trained / "001", ["onnx_any_size"], tmp_path, opset=opset)
    assert done.error < 0.05
    said, files = said_of(trained, photos)
    plain = [i for i, path in enumerate(files) if "turned" in path.name]
    assert len(plain) >= 3
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    for i in plain:
        upright = ImageOps.exif_transpose(Image.open(files[i])).convert("RGB")
        image = np.array(upright).transpose(2, 0, 1)[None]
        (found,) = session.run(None, {"images": image})[0]
        assert found.argmax() == said.classes[i, 0]
        np.testing.assert_allclose(np.sort(found)[::-1], said.probabilities[i], atol=0.03)
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == load(trained).class_names


def test_eight_bit_integers_with_accuracy_and_time_beside(trained: Path, photos: Path, tmp_path: Path) -> None:
    done = export(trained / "001", ["onnx", "onnx_int8"], tmp_path, include_preprocessing=True)
    told = json.loads((tmp_path / "network.int8.json").read_text())
    accuracy = json.loads((trained / "001" / "metrics.json").read_text())["test"]["top1"]
    assert told["float32 test top-1 %"] == pytest.approx(accuracy, abs=1e-4)
    assert told["int8 test top-1 %"] >= accuracy - 15
    assert told["int8 ms"] > 0
    assert done[1].path.stat().st_size < done[0].path.stat().st_size
    assert "8-bit integers, test top-1" in (tmp_path / "README.md").read_text()


def test_the_model_card_says_what_a_stranger_asks(trained: Path, tmp_path: Path) -> None:
    import yaml

    export(trained, ["onnx", "safetensors"], tmp_path)
    card = (tmp_path / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["pipeline_tag"] == "image-classification"
    best = load(trained)
    metrics = [json.loads(path.read_text()) for path in trained.glob("0*/metrics.json")]
    top1 = told["model-index"][0]["results"][0]["metrics"][0]["value"]
    assert top1 in [pytest.approx(one["test"]["top1"], abs=1e-4) for one in metrics]
    assert "95 % interval" in body
    assert "| test | 21 |" in body
    assert "onnx, one image, one thread" in body
    assert all(name in body for name in best.class_names)
    origin = json.loads((trained / "data.json").read_text())["origin"]
    assert Path(origin.partition(" (")[0]).name in body
    assert str(Path(origin.partition(" (")[0]).parent) not in card
    assert json.loads((tmp_path / "preprocessing.json").read_text()) == best.preprocessing.describe()


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ("/home/me/my photos (train: training)", "my photos (train: training)"),
        ("C:\\Users\\me\\photos", "photos"),
        ("data/cifar-10 (official and/or not)", "data/cifar-10 (official and/or not)"),
    ],
)
def test_a_model_card_does_not_say_where_images_lie(origin: str, told: str) -> None:
    assert FOLDERS.sub("", origin) == told


def test_intervals_of_shares() -> None:
    assert interval(0.5, 100) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert interval(1.0, 10) == (pytest.approx(0.7225, abs=1e-4), pytest.approx(1.0))


def test_classify_prints_csv_and_writes_json(
    trained: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said, files = said_of(trained, photos)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    classify("ednag classify", [str(trained / "001"), str(broken), *map(str, files), "--top", "2", "--batch_size", "5"])
    shown = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(shown.out)))
    assert "1 of 22 images could not be read" in shown.err
    assert rows[0]["error"].startswith(f"can't read the image {broken}")
    names = load(trained / "001").class_names
    assert [row["class_1"] for row in rows[1:]] == [names[label] for label in said.classes[:, 0]]
    assert [float(row["probability_2"]) for row in rows[1:]] == pytest.approx(
        said.probabilities[:, 1].tolist(), abs=1e-4
    )
    out = tmp_path / "found.json"
    classify("ednag classify", [str(trained), str(photos), "--format", "json", "--output", str(out)])
    listed = json.loads(out.read_text())
    assert len(listed) == 138
    assert sum(one["probability"] for one in listed[0]["classes"]) == pytest.approx(1, abs=1e-5)


def test_classify_refuses_what_it_can_not_use(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder .*nowhere"):
        classify("ednag classify", [str(trained), str(tmp_path / "nowhere")])
    with pytest.raises(ValueError, match="no image in"):
        classify("ednag classify", [str(trained), str(tmp_path)])
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match="can't read the image"):
        classify("ednag classify", [str(trained), str(tmp_path)])


def test_a_classifier_predicts_whatever_form_images_have(trained: Path, photos: Path) -> None:
    classifier = load(trained / "001")
    files = sorted((photos / "dusk").glob("turned*.jpg"))
    expected = classifier.predict(files, batch_size=3)
    assert expected.shape == (8, 3)
    torch.testing.assert_close(expected.sum(1), torch.ones(8))
    torch.testing.assert_close(classifier.predict(str(files[2])), expected[2:3], atol=1e-5, rtol=1e-4)
    opened = [Image.open(path) for path in files]
    torch.testing.assert_close(classifier.predict(opened), expected, atol=1e-5, rtol=1e-4)
    inputs = torch.stack([classifier.preprocess(path) for path in files])
    torch.testing.assert_close(classifier.predict(inputs), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(classifier.network(inputs).softmax(-1), expected, atol=1e-5, rtol=1e-4)
    assert classifier.predict([]).shape == (0, 3)
    with pytest.raises(ValueError, match="batch_size must be >= 1"):
        classifier.predict(files, batch_size=0)


def test_a_retraining_has_a_page_of_its_own_files(trained: Path) -> None:
    page = (trained / "report.html").read_text()
    assert "Worst mistakes" in page
    assert page.count("data:image/png") == min(24, len(Predictions.load(find(trained) / "predictions.npz").worst(24)))


def test_pictures_in_the_report_can_be_switched_off() -> None:
    assert arrange(["--report.images", "false"], "retrain") == ["--report_images", "false"]


@pytest.mark.parametrize("tuned", [True, False])
def test_a_model_card_names_the_weights_that_training_began_with(tuned: bool, trained: Path, tmp_path: Path) -> None:
    architecture = json.loads((trained / "001" / "architecture.json").read_text())
    architecture["space"] = {"class_path": "ednag.spaces.PretrainedLite", "init_args": {}}
    (tmp_path / "job.json").write_text(json.dumps({"recipe": {"fine_tuning": {"calibration": 256} if tuned else None}}))
    card = model_card(tmp_path / "001", architecture, [])
    assert ("license: apache-2.0\n" in card) == tuned
    assert ("EfficientNet-Lite0, trained on ImageNet (Apache-2.0)" in card) == tuned
    assert ("from random ones" in card) != tuned
