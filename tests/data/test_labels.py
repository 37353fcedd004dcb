"""Labels of arrays: the unambiguous ones are accepted, the others refused before any training."""

from pathlib import Path

import numpy as np
import pytest

from ednag.data.arrays import NumpyImages

X = np.random.default_rng(0).integers(0, 256, (30, 4, 4), dtype=np.uint8)
Y = np.arange(30) % 3
NAMES = np.array(["ant", "bee", "cow"])


def opened(folder: Path, train: np.ndarray, test: np.ndarray | None = None, **more: np.ndarray) -> NumpyImages:
    tests = {} if test is None else {"x_test": X[: len(test)], "y_test": test}
    np.savez(folder / "a.npz", x_train=X, y_train=train, **tests, **more)
    data = NumpyImages(folder / "a.npz", image_size=4, val_fraction=0.1)
    data.setup()
    return data


@pytest.mark.parametrize(
    ("train", "names"),
    [
        (Y[:, None], ["0", "1", "2"]),
        (np.eye(3)[Y], ["0", "1", "2"]),
        (np.eye(3, dtype=bool)[Y], ["0", "1", "2"]),
        (Y + 1, ["1", "2", "3"]),
        (Y * 7 + 4, ["4", "11", "18"]),
        (Y.astype(np.float64), ["0", "1", "2"]),
        (Y.astype(np.uint64), ["0", "1", "2"]),
        (NAMES[Y], ["ant", "bee", "cow"]),
        (np.char.encode(np.array(["ant", "bee", "çow"]), "utf-8")[Y], ["ant", "bee", "çow"]),
        (Y.astype(np.float16), ["0", "1", "2"]),
        (Y > 1, ["0", "1"]),
        (np.where(Y > 1, 1, -1), ["-1", "1"]),
    ],
)
def test_unambiguous_labels(train: np.ndarray, names: list[str], tmp_path: Path) -> None:
    data = opened(tmp_path, train, train[:9])
    assert data.class_names == names
    expected = Y if len(names) == 3 else (Y > 1).astype(int)
    assert data.splits.test().labels.tolist() == expected[:9].tolist()


@pytest.mark.parametrize(
    ("train", "classes", "names"),
    [
        (Y, NAMES, ["ant", "bee", "cow"]),
        (Y, NAMES.astype(bytes), ["ant", "bee", "cow"]),
        (Y + 1, NAMES, ["ant", "bee", "cow"]),  # exactly 1 .. K
        (Y + 1, np.array(["none", *NAMES]), ["ant", "bee", "cow"]),
        (Y * 2, np.array(list("abcde")), ["a", "c", "e"]),
        (NAMES[Y], NAMES[::-1], ["ant", "bee", "cow"]),
    ],
)
def test_names_of_classes(train: np.ndarray, classes: np.ndarray, names: list[str], tmp_path: Path) -> None:
    assert opened(tmp_path, train, classes=classes).class_names == names


@pytest.mark.parametrize(
    ("train", "test", "more", "words"),
    [
        (Y, np.array([0, 1, 3]), {}, "y_test .* labels that no training image has: 3; training has 3 classes"),
        (Y + 1, Y[:6], {}, "no training image has: 0"),
        (Y, NAMES[Y[:3]], {}, "no training image has: ant"),
        (Y, None, {"classes": NAMES[:2]}, "classes has 2 names, but the labels .* go from 0 to 2"),
        (Y * 2 + 1, None, {"classes": NAMES}, "go from 1 to 5"),
        (NAMES[Y], None, {"classes": NAMES[:2]}, "label 'cow', which is not in classes"),
        (Y - 1, None, {}, "has the label -1; leave out images without a class"),
        (Y / 2, None, {}, "whole numbers or names of classes; it is float64 with 0.5"),
        (np.where(Y == 1, np.nan, Y), None, {}, "float64 with nan"),
        (np.where(Y == 1, -np.inf, Y), None, {}, "numbers of classes; one of them is -inf"),
        (np.array([b"\xff", b"a"])[Y % 2], None, {}, "bytes that are not UTF-8"),
        (Y, None, {"classes": NAMES[[0, 0, 1]]}, "the name 'ant' twice"),
        (
            np.zeros((30, 4, 4), np.int64),
            None,
            {},
            r"one label for each image, or one-hot rows; it is int64 \(30, 4, 4\)",
        ),
        (np.eye(3)[Y] / 2, None, {}, "one label for each image, or one-hot rows"),
        (np.ones((30, 3)), None, {}, "one-hot rows"),
        (Y[:-1], None, {}, "29 labels for 30 images"),
        (Y.astype(complex), None, {}, "whole numbers"),
        (np.full(30, 2**63, np.uint64), None, {}, "one of them is 9.22337e"),
        (Y * 0, None, {}, "fewer than two classes"),
        (Y, Y[:3], {"classes": NAMES[None]}, "one name for each class"),
    ],
)
def test_labels_that_could_mean_two_things(
    train: np.ndarray, test: np.ndarray | None, more: dict, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        opened(tmp_path, train, test, **more)


def test_channels_before_rows_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros((30, 3, 8, 8), np.uint8), y_train=Y)
    with pytest.raises(ValueError, match="move the second axis to the end"):
        NumpyImages(tmp_path / "a.npz").setup()
