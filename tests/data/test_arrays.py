"""Image data sets that come as arrays."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from ednag.data.arrays import FashionMNIST, NumpyImages


def archive(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def images(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def test_test_images_are_used_where_there_are_some(tmp_path: Path) -> None:
    y = np.arange(40) % 4 * 10  # labels with gaps
    path = archive(tmp_path / "a.npz", x_train=images(40, 8, 8, 3), y_train=y, x_val=images(8, 8, 8, 3), y_val=y[:8])
    data = NumpyImages(path, image_size=8, val_fraction=0.2)
    data.setup()
    assert data.class_names == ["0", "10", "20", "30"]
    assert [len(data.splits.train), len(data.splits.val), len(data.splits.test())] == [32, 8, 8]
    assert data.splits.test().labels.tolist() == [0, 1, 2, 3] * 2
    pixels = next(iter(data.test_dataloader()))[0]
    assert torch.equal(pixels, torch.from_numpy(images(8, 8, 8, 3)).permute(0, 3, 1, 2))


@pytest.mark.parametrize("names", ["x_{}|y_{}", "X_{}|Y_{}", "{}_images|{}_labels"])
def test_validation_images_are_used_beside_test_images(
    names: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels, arrays = images(50, 8, 8, 3), {}
    for part, chosen in (("train", slice(0, 32)), ("val", slice(32, 40)), ("test", slice(40, 50))):
        x, y = (name.format(part) for name in names.split("|"))
        arrays |= {x: pixels[chosen], y: np.arange(50)[chosen] % 4}
    data = NumpyImages(archive(tmp_path / "a.npz", **arrays), image_size=8)
    data.setup()
    assert [len(data.splits.train), len(data.splits.val), len(data.splits.test())] == [32, 8, 10]
    assert np.array_equal(data.splits.val.pixels, pixels[32:40])
    assert "flatter" not in caplog.text
    arrays[names.format("test", "test").split("|")[0]] = pixels[:10]
    NumpyImages(archive(tmp_path / "b.npz", **arrays), image_size=8).setup()
    assert "10 of the test images are training images as well" in caplog.text


def test_one_set_is_split_and_grey_images_get_channels(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "a.npz", x_test=images(60, 8, 8), y_test=np.arange(60) % 3, classes=np.array(["a", "b", "c"])
    )
    data = NumpyImages(path, image_size=16, test_fraction=0.2)
    data.setup()
    assert data.class_names == ["a", "b", "c"]
    assert len(data.splits.test()) == 12
    batch = next(iter(data.val_dataloader()))[0]
    assert batch.shape[1:] == (3, 16, 16)
    assert torch.equal(batch[:, 0], batch[:, 2])


def test_a_part_can_be_chosen(tmp_path: Path) -> None:
    y = np.arange(60) % 6
    path = archive(tmp_path / "a.npz", x_train=images(60, 8, 8, 1), y_train=y, half=(y >= 3).astype(np.int64))
    data = NumpyImages(path, where={"half": 1}, image_size=8)
    data.setup()
    assert data.class_names == ["3", "4", "5"]
    with pytest.raises(ValueError, match="no array 'third'"):
        NumpyImages(path, where={"third": 1}).setup()


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no numpy archive"):
        NumpyImages(tmp_path / "none.npz").setup()
    with pytest.raises(ValueError, match="no arrays x_train"):
        NumpyImages(archive(tmp_path / "b.npz", x=images(3, 8, 8))).setup()
    path = archive(tmp_path / "v.npz", x_test=images(3, 8, 8), y_test=[0, 1, 2], x_val=images(1, 8, 8), y_val=[0])
    with pytest.raises(ValueError, match="test and validation images, but no arrays x_train and y_train"):
        NumpyImages(path).setup()
    path = archive(tmp_path / "o.npz", x_train=images(4, 8, 8), y_train=np.array(["a", "b"] * 2, dtype=object))
    with pytest.raises(
        ValueError, match=r"y_train.npy holds Python objects, which are not read; store numbers, or texts"
    ):
        NumpyImages(path).setup()
    path = archive(tmp_path / "0.npz", x_train=np.zeros((4, 8, 0, 3), np.uint8), y_train=np.arange(4) % 2)
    with pytest.raises(ValueError, match="must be uint8"):
        NumpyImages(path).setup()
    path = archive(tmp_path / "c.npz", x_train=np.zeros((4, 8, 8, 3)), y_train=np.arange(4) % 2)
    with pytest.raises(ValueError, match="must be uint8"):
        NumpyImages(path).setup()
    with pytest.raises(ValueError, match="fewer than two classes"):
        NumpyImages(archive(tmp_path / "d.npz", x_train=images(4, 8, 8, 3), y_train=np.zeros(4, np.int64))).setup()
    path = archive(tmp_path / "e.npz", x_train=images(20, 8, 8, 3), y_train=np.arange(20) % 2)
    with pytest.raises(ValueError, match="in_channels is 1"):
        NumpyImages(path, in_channels=1).setup()


def idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    with gzip.open(path, "wb") as stream:
        stream.write(header + values.tobytes())


def test_fashion_mnist_reads_its_official_files(tmp_path: Path) -> None:
    labels = (np.arange(40) % 10).astype(np.uint8)
    for part in ("train", "t10k"):
        idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images(40, 28, 28))
        idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", labels)
    data = FashionMNIST(tmp_path, image_size=28, in_channels=1, val_fraction=0.25)
    data.setup()
    assert data.num_classes == 10
    test = data.splits.test()
    assert np.array_equal(test.pixels[..., 0].numpy(), images(40, 28, 28))
    assert test.labels.tolist() == labels.tolist()
    with gzip.open(tmp_path / "t10k-labels-idx1-ubyte.gz", "wb") as stream:
        stream.write(b"\x00\x00\x08\x01\x00\x00\x00\x28\x01")
    with pytest.raises(ValueError, match="not a complete IDX file"):
        FashionMNIST(tmp_path).setup()
    with pytest.raises(FileNotFoundError, match="dataset-fashion-mnist"):
        FashionMNIST(tmp_path / "elsewhere").setup()
