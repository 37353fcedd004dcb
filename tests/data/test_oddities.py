"""What is told of images before anything is trained."""

from pathlib import Path

import pytest
from PIL import Image

from ednag.data import ImageFolder


def folder(root: Path, counts: dict[str, int], size: tuple[int, int]) -> Path:
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", size, (number * 7 % 256, len(name) * 40, number)).save(root / name / f"{number}.png")
    return root


def told(data: ImageFolder, caplog: pytest.LogCaptureFixture) -> list[str]:
    data.setup("fit")
    return [record.getMessage() for record in caplog.records if record.name == "ednag.data.oddities"]


def test_a_class_of_three_images_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = folder(tmp_path, {"a": 24, "bb": 24, "ccc": 3}, (40, 30))
    (line,) = told(ImageFolder(root, image_size=32), caplog)
    assert line.startswith(f"{root}: few training images of ccc (1), where others have 1")
    assert "\n" not in line


def test_images_that_are_enlarged_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = folder(tmp_path, {"a": 12, "bb": 12}, (20, 16))
    (line,) = told(ImageFolder(root, image_size=64), caplog)
    assert "images are mostly about 20 x 16 pixels, and are enlarged to 64 x 64" in line


def test_nothing_is_told_of_ordinary_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert told(ImageFolder(folder(tmp_path / "few", {"a": 5, "bb": 6}, (40, 32)), image_size=64), caplog) == []
    assert told(ImageFolder(folder(tmp_path / "many", {"a": 40, "bb": 12}, (40, 32)), image_size=32), caplog) == []
