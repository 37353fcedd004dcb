"""Features of tasks, recomputed from the images of their sources."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ednag.data.arrays  # noqa: F401 (the configuration names its classes)
from ednag.data.datasets import Digits
from ednag.data.sampling import Images, open_pool
from ednag.predictor import extractors
from ednag.predictor.extractors import FeatureExtractor
from ednag.predictor.features import features_path, load_features
from ednag.predictor.meta_data import MetaData
from ednag.predictor.task_features import TaskFeatures, read_sources, repeated
from ednag.predictor.tasks import MissingImagesError, TaskDefinition, draw, read_tasks, sample_tasks, write_tasks

LIMITS = {"train": 300, "val": 100, "test": 100}


class MeanColour(FeatureExtractor):
    """Three features: the mean of each channel."""

    name: ClassVar[str] = "mean"
    dim: ClassVar[int] = 3
    side: ClassVar[int] = 16

    def load(self) -> nn.Module:
        class Mean(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x.mean((-2, -1))

        return Mean()


@pytest.fixture
def features() -> TaskFeatures:
    made = TaskFeatures({"digits": Digits(image_size=16)})
    made.extractor = MeanColour()
    return made


def test_features_are_of_the_images_that_the_task_was_trained_on(features: TaskFeatures) -> None:
    task = TaskDefinition("digits-0", "digits", (2, 5, 7), 16, 16, False, 1, LIMITS)
    task, images = draw(open_pool(Digits(image_size=16), 16), task)
    made = features(task)
    assert made.shape == (3, 20, 3)
    means = images.train.pixels.float().mean((2, 3)) / 255
    for label in range(3):
        distance = (made[label][:, None] - means[images.train.labels == label]).abs().amax(-1).amin(1)
        assert distance.max() < 1e-6
    with pytest.raises(MissingImagesError, match="needs images of letters; sources: digits"):
        features(replace(task, source="letters"))
    with pytest.raises(MissingImagesError, match="are not those that task"):
        features(replace(task, sha256="0" * 64))


def test_small_classes_repeat_their_images() -> None:
    images = Images(torch.arange(5)[:, None, None, None].expand(5, 3, 2, 2), torch.tensor([0, 0, 1, 1, 1]))
    out = repeated(images, 5)
    assert out.labels.bincount().tolist() == [5, 5]
    assert out.pixels[out.labels == 0, 0, 0, 0].tolist() == [0, 1, 0, 1, 0]
    assert torch.equal(repeated(images, 2).labels, images.labels)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Meta data of three sources as they are collected: digits, which are here, stripes in a file, and dots in none."""
    monkeypatch.setitem(extractors.EXTRACTORS, "mean", MeanColour)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (90, 16, 16), generator=generator, dtype=torch.uint8).numpy()
    np.savez(tmp_path / "stripes.npz", x_train=pixels, y_train=np.arange(90) % 3)
    (tmp_path / "collect.yaml").write_text(
        f"""
seed_everything: 0
architectures: 6
sources:
  digits: {{class_path: Digits, init_args: {{image_size: 16, in_channels: 3}}}}
  stripes: {{class_path: NumpyImages, init_args: {{path: {tmp_path}/stripes.npz, image_size: 16}}}}
  dots: {{class_path: NumpyImages, init_args: {{path: {tmp_path}/dots.npz, image_size: 16}}}}
"""
    )
    digits = open_pool(Digits(image_size=16, in_channels=3), 16)
    stripes = open_pool(read_sources(tmp_path / "collect.yaml")["stripes"], 16)
    tasks = [draw(digits, task)[0] for task in sample_tasks("digits", 10, 3, LIMITS, 16)]
    tasks += [draw(stripes, task)[0] for task in sample_tasks("stripes", 3, 2, LIMITS, 16)]
    tasks += [replace(task, sha256=f"{i:064x}") for i, task in enumerate(sample_tasks("dots", 3, 2, LIMITS, 16))]
    write_tasks(tmp_path / "tasks.json", "nasbench201", tasks)
    genes = torch.randint(0, 5, (42, 6), generator=generator).to(torch.int8).numpy()
    values = np.linspace(20, 60, 42).astype(np.float32)
    np.savez(tmp_path / "rows.npz", genes=genes, task=np.arange(42) % 7, valid=values, test=values, space="nasbench201")
    return tmp_path


def meta_data(folder: Path, **options: object) -> MetaData:
    files = (folder / "rows.npz", folder / "tasks.json", folder / "features", "mean")
    return MetaData(*files, **{"test_sources": (), "val_sources": ("dots",), **options})


def test_missing_features_are_made_from_the_sources_that_were_collected(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no features of task digits-000 .*--data\.sources collect/"):
        meta_data(folder).setup()
    with pytest.raises(
        MissingImagesError, match=r"dots-000 needs images of dots: .*dots\.npz.*--data\.skip_missing true"
    ):
        meta_data(folder, sources=folder / "collect.yaml").setup()
    tasks = read_tasks(folder / "tasks.json")
    kept = features_path(folder / "features", tasks[4].sha256, "mean")  # nothing is lost by the error
    expected = TaskFeatures(read_sources(folder / "collect.yaml"), "mean")(tasks[4])
    assert torch.allclose(load_features(kept), expected, atol=1e-3)


def test_tasks_of_absent_images_can_be_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = {"sources": folder / "collect.yaml", "skip_missing": True}
    with caplog.at_level(logging.WARNING):
        found = meta_data(folder, **options)
        found.setup()
    assert "left out 2 of 7 tasks: task dots-000 needs images of dots: no numpy archive at" in caplog.text
    held = {found.tasks[i].source for i in found.part("val").chosen}
    trained = {found.tasks[i].source for i in found.part("train").chosen}
    assert (held, trained) in (({"digits"}, {"stripes"}), ({"stripes"}, {"digits"}))  # in place of the absent dots
    with np.load(folder / "stripes.npz") as stripes:
        np.savez(folder / "stripes.npz", x_train=255 - stripes["x_train"], y_train=stripes["y_train"])
    for path in (folder / "features").iterdir():
        path.unlink()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found = meta_data(folder, **options)
        parts = [{found.tasks[i].id for i in found.part(name).chosen} for name in ("train", "val")]
    assert "left out 2 of 7 tasks: the images of stripes are not those that task stripes-000 was made of" in caplog.text
    assert sorted(map(len, parts)) == [1, 2]
    assert set.union(*parts) == {"digits-000", "digits-001", "digits-002"}


def test_a_configuration_without_valid_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no configuration .*neither a file nor a shipped one"):
        read_sources(tmp_path / "collect.yaml")
    for text in (
        "runs: 1",
        "",
        "sources: {a: {class_path: NoSuchImages}}",
        "sources: {a: {class_path: Digits, init_args: {b: 1}}}",
    ):
        (tmp_path / "collect.yaml").write_text(text)
        with pytest.raises(ValueError, match=r"collect\.yaml is .*no.* configuration of `ednag collect` with sources"):
            read_sources(tmp_path / "collect.yaml")
