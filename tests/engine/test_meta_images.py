"""`ednag generate` by the meta predictor on folders of images, good and bad."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ednag.cli.main import main
from ednag.costs.counting import count_costs
from ednag.data.image_folder import ImageFolder
from ednag.predictor import extractors
from ednag.predictor.extractors import FeatureExtractor
from ednag.predictor.meta_predictor import MetaPredictor
from ednag.predictor.saving import save_predictor
from ednag.samplers.presets import CONFIGS
from ednag.spaces import NASBench201


class Thumbnails(FeatureExtractor):
    """Pixels of images of 4 x 4 as features."""

    name, dim, side = "thumbnails", 48, 4

    def load(self) -> torch.nn.Module:
        return torch.nn.Flatten()


@pytest.fixture
def predictor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(extractors.EXTRACTORS, "thumbnails", Thumbnails)
    monkeypatch.setenv("EDNAG_CACHE", str(tmp_path / "cache"))
    save_predictor(MetaPredictor(extractor="thumbnails", width=24, members=2), tmp_path / "predictor")
    return tmp_path / "predictor"


def folder(root: Path, kind: str = "rgb", classes: int = 2, each: int = 28) -> Path:
    """Write grey noise, brighter in later classes, as files of some kind."""
    generator = np.random.default_rng(0)
    for label in range(classes):
        (root / f"class{label}").mkdir(parents=True)
        for i in range(each):
            grey = generator.integers(0, 100 + 100 * label, (20, 24)).astype(np.uint8)
            pixels = {"rgb": np.stack([grey] * 3, -1), "grey": grey, "deep": grey.astype(np.uint16) * 257}[kind]
            Image.fromarray(pixels).save(root / f"class{label}" / f"{i:03d}.png")
    return root


def generate(predictor: Path, images: Path, run: Path, *args: str) -> int:
    where = ["--config", str(CONFIGS / "generate/meta.yaml"), "--data.root", str(images), "--run_dir", str(run)]
    options = ["--evaluations", "20", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    before = sys.argv
    try:
        return main(["generate", *where, "--fitness.predictor", str(predictor), *options, *args])
    finally:
        sys.argv = before


@pytest.mark.slow
def test_grey_and_16_bit_images_score_as_the_same_ones_in_colour(predictor: Path, tmp_path: Path) -> None:
    found = []
    for kind in ("rgb", "grey", "deep"):
        assert generate(predictor, folder(tmp_path / kind, kind), tmp_path / f"run-{kind}") == 0
        report = json.loads((tmp_path / f"run-{kind}" / "report.json").read_text())
        found.append([(one["architecture"], one["fitness"]) for one in report["candidates"]])
    assert len(found[0]) == 3
    assert found[0] == found[1] == found[2]


def test_only_the_images_that_are_looked_at_are_read(predictor: Path, tmp_path: Path) -> None:
    images = folder(tmp_path / "images", each=150)
    known = ImageFolder(images)
    listed = known._listings()[0]
    assert listed.labels.bincount().tolist() == [115, 115]
    looked_at = {listed.files[115 * label + i * 115 // 50] for label in range(2) for i in range(50)}
    for path in {*images.rglob("*.png")} - looked_at:
        path.write_bytes(b"not read")
    assert generate(predictor, images, tmp_path / "run") == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    best = report["candidates"][0]
    network = NASBench201().build(torch.tensor(best["genes"]), 2, in_channels=3, channels=16, cells=5, stem_stride=2)
    costs = count_costs(network, (3, 64, 64))  # the images' shape, though no loader was asked
    assert [best["costs"][name] for name in ("params", "macs")] == [costs.params, costs.macs]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda images, _: [path.unlink() for path in images.glob("class1/*")], "class 'class1' of"),
        (lambda images, _: [path.unlink() for path in sorted(images.glob("class1/*"))[1:]], "class class1 has one image"),
        (lambda images, _: [path.unlink() for path in sorted(images.glob("class1/*"))[20:]], "class class1 has 15 training"),
        (lambda images, _: [truncate(path) for path in images.glob("class0/*")], "can't read the image"),
        (lambda images, _: [path.write_text("no") for path in images.glob("class0/*")], "can't read the image"),
        (lambda _, predictor: truncate(predictor / "weights.safetensors"), "weights.safetensors is truncated or damaged"),
        (lambda _, predictor: truncate(predictor / "config.json"), "config.json is damaged or not"),
        (lambda _, predictor: (predictor / "config.json").unlink(), "no predictor"),
    ],
    ids=["empty-class", "one-image", "few-images", "truncated-images", "texts", "weights", "config", "no-config"],
)  # fmt: skip
def test_bad_input_is_named_and_leaves_the_run_directory_free(
    predictor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: object, message: str
) -> None:
    images = folder(tmp_path / "images")
    damage(images, predictor)
    assert generate(predictor, images, tmp_path / "run") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()  # a failed start leaves nothing behind


@pytest.mark.slow
def test_one_class_another_space_and_a_file_are_refused(
    predictor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = folder(tmp_path / "images")
    for args, message in (
        ((predictor, folder(tmp_path / "single", classes=1), tmp_path / "a"), "has one class only (class0)"),
        ((predictor / "weights.safetensors", images, tmp_path / "b"), "weights.safetensors is a file; give the folder"),
        ((predictor, images, tmp_path / "c", "--space", "TransNAS101Micro"), "can't score transnas101_micro"),
    ):
        assert generate(*args) == 2
        assert message in capsys.readouterr().err
