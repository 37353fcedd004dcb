"""Folders as people have them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ednag.data import ImageFolder, module
from ednag.data.folders import find_layout, list_images


def write(root: Path, *folders: str, each: int = 4) -> Path:
    """Put a few images into each folder."""
    for k, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            Image.fromarray(np.full((6, 6), 10 * k + i, np.uint8)).save(root / folder / f"{i}.png")
    return root


@pytest.mark.parametrize(
    ("names", "roles"),
    [
        (("Train", "Test"), ("Train", None, "Test")),
        (("training", "validation"), ("training", "validation", None)),
        (("TRAIN", "valid", "testing"), ("TRAIN", "valid", "testing")),
        (("train_set", "dev", "test_set"), ("train_set", "dev", "test_set")),
        (("seg_train", "seg_test"), ("seg_train", None, "seg_test")),
        (("Training Images", "ValImages", "test-1"), ("Training Images", "ValImages", "test-1")),
        (("train", "train_extra", "eval"), ("train", "eval", None)),
        (("cat", "dog"), ("", None, None)),
    ],
)
def test_splits_go_by_their_usual_names(names: tuple, roles: tuple, tmp_path: Path) -> None:
    write(tmp_path, *([f"{name}/{kind}" for name in names for kind in "ab"] if "cat" not in names else names))
    layout = find_layout(tmp_path)
    found = [None if folder is None else folder for folder in (layout.train, layout.val, layout.test)]
    assert found == [None if role is None else tmp_path / role for role in roles]


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (("OK", "NG", "test"), "holds test, the usual name of a split, but no training folder; beside it are NG, OK"),
        (("test/a", "test/b", "val/a", "val/b"), "no training folder"),
        (("train/a", "train/b", "val/a", "val/b", "valid/a", "valid/b"), "val and valid, both usual names of a val"),
        (("train/a", "Train/b"), "Train and train, both usual names"),
        (("cat/train", "cat/test", "dog/train"), "cat holds test, train, the usual name of a split"),
        (("photos/train/a", "photos/train/b"), r"one class only \(photos\).*did you mean .*photos, which holds train"),
        (("train",), "holds images, but no class folders"),
        (("train1/a", "train1/b", "train2/a", "train2/b"), "train1 and train2, both usual names of a train folder"),
        (("fold1/a", "fold1/b", "fold2/a", "fold2/b"), r"fold1, fold2 in .* hold folders of the same names \(a, b\)"),
    ],
)
def test_what_is_ambiguous_is_refused(folders: tuple, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        ImageFolder(write(tmp_path, *folders)).setup()


def test_what_programs_leave_behind_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, "train/cat", "train/dog", "train/.ipynb_checkpoints", "train/__MACOSX", "__MACOSX/train", each=3)
    write(tmp_path, "train/cat/.ipynb_checkpoints", "test")  # a test without classes doesn't count either
    for name in ("._0.png", ".DS_Store", "Thumbs.db"):
        (tmp_path / "train/dog" / name).write_bytes(b"\0\x05\x16\x07")
    (tmp_path / "train/dog/labels.txt").write_text("dog")
    listing = list_images(tmp_path / "train")
    assert listing.class_names == ["cat", "dog"]
    assert listing.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert listing.left_out == {".txt": 1}
    assert find_layout(tmp_path).left_out == ("test",)


def test_linked_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "more", "bird")
    write(tmp_path / "root", "cat", "dog")
    (tmp_path / "root/cat/linked").symlink_to(tmp_path / "elsewhere/more")
    (tmp_path / "root/bird").symlink_to(tmp_path / "elsewhere/bird")
    (tmp_path / "root/dog/round").symlink_to(tmp_path / "root/dog")
    listing = list_images(tmp_path / "root")
    assert listing.class_names == ["bird", "cat", "dog"]
    assert listing.labels.bincount().tolist() == [4, 8, 4]


def test_classes_may_hold_folders_and_words_of_splits(tmp_path: Path) -> None:
    root = write(tmp_path, "animals/cat", "animals/dog", "plants/rose", "bullet_train")
    assert list_images(find_layout(root).train).class_names == ["animals", "bullet_train", "plants"]


def test_links_never_lead_into_another_class(tmp_path: Path) -> None:
    root = write(tmp_path / "root", "cat", "dog")
    (root / "cat/round").symlink_to(root)
    (root / "cat/9.png").symlink_to(root / "cat/9.png")
    listing = list_images(root)
    assert listing.labels.bincount().tolist() == [5, 4]
    with pytest.raises(ValueError, match=r"9.png \(there is no such file\)"):
        ImageFolder(root, image_size=4).setup()
    (root / "cat/9.png").unlink()
    (root / "kitten").symlink_to(root / "cat")
    with pytest.raises(ValueError, match=r"cat/0.png and .*kitten/0.png are the same file, in the classes cat and kit"):
        list_images(root)


def test_names_of_classes_are_text(tmp_path: Path) -> None:
    write(tmp_path, "猫", "v1.0", "a=b")
    assert list_images(tmp_path).class_names == ["a=b", "v1.0", "猫"]
    (Path(tmp_path) / "\udcff").mkdir()
    with pytest.raises(ValueError, match="is not UTF-8; rename it"):
        list_images(tmp_path)


def test_images_in_two_places_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "train/a", "train/b", "test/a", "test/b", each=6)
    data = ImageFolder(tmp_path, image_size=4)
    data.setup()
    assert "flatter" not in caplog.text
    (tmp_path / "test/a/copy.png").write_bytes((tmp_path / "train/a/1.png").read_bytes())
    (tmp_path / "train/b/copy.png").write_bytes((tmp_path / "train/a/2.png").read_bytes())
    (tmp_path / "train/loose.png").write_bytes(b"")
    data = ImageFolder(tmp_path, image_size=4)
    data.setup()
    assert "1 of the test images are" in caplog.text
    assert "a/copy.png is a/1.png" in caplog.text
    assert "1 images have two labels" in caplog.text
    assert data.splits.origin.endswith("left out: 1 loose .png files")


@pytest.mark.parametrize("in_memory", [True, False])
def test_unreadable_images_are_skipped_and_counted(
    in_memory: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write(tmp_path, "train/cat", "train/dog", "test/cat", "test/dog", each=12)
    broken = [root / "train/cat/0.png", root / "train/dog/5.png", root / "test/dog/7.png"]
    for path in broken:
        path.write_bytes(path.read_bytes()[:40])
    options = {"image_size": 4, "in_memory": in_memory, "val_fraction": 0.25}
    data = ImageFolder(root, on_bad_image="skip", **options)
    data.setup()
    assert len(data.splits.train) + len(data.splits.val) == 22
    assert len(data.splits.test()) == 23
    assert [word in caplog.text for word in ("skipped 1 of 24 images", "7.png", "remove or repair")] == [True] * 3
    assert len(data.class_samples(50)[1]) == len(data.splits.train)
    with pytest.raises(ValueError, match=r"can't read the image .*(0|5).png"):
        list(ImageFolder(root, in_memory=True, image_size=4).splits.train)
    for path in (root / "train/cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="class 'cat' has no readable image"):
        ImageFolder(root, on_bad_image="skip", **options).setup()


def test_what_was_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "Training/cat", "Training/dog", "valid/cat", "valid/dog", "notes", each=10)
    (tmp_path / "valid/cat/a.heic").write_bytes(b"")
    said: list[str] = []
    monkeypatch.setattr(module, "rank_zero_info", said.append)
    ImageFolder(tmp_path, image_size=4).setup()
    assert said == [
        f"ImageFolder: 2 classes (cat, dog); 18 training, 2 validation and 20 test images; from {tmp_path} (Training: "
        "training, validation images are held out; valid: test); left out: notes/, 1 .heic files"
    ]
