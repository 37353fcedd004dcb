import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from ednag.data import CIFAR10, CIFAR100, Digits, ImageFolder
from ednag.data.decoding import read_image
from ednag.data.files import FileImages, MemoryImages, stratified_split
from ednag.data.folders import list_images
from ednag.data.module import ImageDataModule, channel_statistics


def epoch(loader: DataLoader, number: int) -> torch.Tensor:
    loader.sampler.set_epoch(number)
    return torch.cat([images.flatten(1) for images, _ in loader])


def test_split_is_stratified_disjoint_and_seeded() -> None:
    labels = torch.tensor([0] * 50 + [1] * 20 + [2] * 10)
    kept, held = stratified_split(labels, 0.2, seed=1)
    assert labels[held].bincount().tolist() == [10, 4, 2]
    assert sorted(torch.cat([kept, held]).tolist()) == list(range(80))
    assert torch.equal(held, stratified_split(labels, 0.2, seed=1)[1])
    assert not torch.equal(held, stratified_split(labels, 0.2, seed=2)[1])
    with pytest.raises(ValueError, match="between 0 and 1"):
        stratified_split(labels, 1.0, 0)
    with pytest.raises(ValueError, match="class 1 has one image only"):
        stratified_split(torch.tensor([0, 0, 1]), 0.5, 0)
    with pytest.raises(ValueError, match="class owl has one image only"):
        stratified_split(torch.tensor([0, 0, 1]), 0.5, 0, ["fox", "owl"])


def test_digits_splits_do_not_overlap_and_test_is_the_same_for_every_seed() -> None:
    first, second = Digits(seed=0), Digits(seed=1)
    for data in (first, second):
        data.setup("fit")
        data.test_dataloader()
    assert (first.num_classes, first.in_channels, first.image_size) == (10, 1, 16)
    assert first.class_names == [str(i) for i in range(10)]
    sizes = [len(first.splits.train), len(first.splits.val), len(first.splits.test())]
    assert sum(sizes) == 1797
    assert torch.equal(first._test.pixels, second._test.pixels)
    assert not torch.equal(first.splits.val.pixels, second.splits.val.pixels)


def test_order_and_augmentation_follow_from_the_epoch_alone() -> None:
    one, two = Digits(cutout=4), Digits(cutout=4)
    one.setup()
    two.setup()
    epoch(one.train_dataloader(), 0)  # an earlier epoch must leave no trace
    a, b = epoch(one.train_dataloader(), 3), epoch(two.train_dataloader(), 3)
    assert torch.equal(a, b)
    assert not torch.equal(a, epoch(one.train_dataloader(), 4))
    batch = next(iter(one.val_dataloader()))
    one.prepare(batch, epoch=2)
    x = one.prepare(batch, epoch=3)[0]
    assert torch.equal(x, two.prepare(batch, epoch=3)[0])
    assert not torch.equal(one.prepare(batch, epoch=3)[0], x)  # the next batch of the epoch
    one.restart()
    assert torch.equal(one.prepare(batch, epoch=3)[0], x)


def test_statistics_agree_with_numpy() -> None:
    data = Digits(in_channels=3)
    data.setup()
    pixels = data.splits.train.pixels.numpy() / 255.0
    np.testing.assert_allclose(data.normalisation["mean"], pixels.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(data.normalisation["std"], pixels.std((0, 1, 2)), rtol=1e-6)
    flat = MemoryImages(torch.full((4, 2, 2, 1), 255, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    assert channel_statistics(flat) == {"mean": [1.0], "std": [1.0]}


def test_given_statistics_are_used() -> None:
    data = Digits(mean=[0.5], std=[0.5])
    images, _ = data.prepare(next(iter(data.val_dataloader())))
    assert images.min() == -1
    assert images.max() == 1


def tree(photographs: Path, root: Path, *splits: str) -> Path:
    """Share the files of each class out over some splits, or put the classes into the root."""
    for folder in photographs.iterdir():
        for i, path in enumerate(sorted(folder.iterdir())):
            place = root / (splits[i % len(splits)] if splits else "") / folder.name
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    return root


@pytest.mark.parametrize(
    ("splits", "sizes"),
    [
        ((), (69, 9, 12)),
        (("train",), (69, 9, 12)),
        (("train", "test"), (39, 6, 45)),
        (("train", "val"), (39, 6, 45)),
        (("train", "val", "test"), (30, 30, 30)),
    ],
)
def test_layouts(photographs: Path, tmp_path: Path, splits: tuple[str, ...], sizes: tuple[int, ...]) -> None:
    data = ImageFolder(tree(photographs, tmp_path, *splits), image_size=32)
    data.setup("fit")
    assert data.class_names == ["china", "digit", "flower"]
    assert (len(data.splits.train), len(data.splits.val), len(data.splits.test())) == sizes
    assert len(data.splits.val.labels.unique()) == 3


def test_images_in_memory_and_on_disk_are_the_files_pixels(photographs: Path, tmp_path: Path) -> None:
    root = tree(photographs, tmp_path, "train", "val")
    memory = ImageFolder(root, image_size=32, in_memory=True)
    images, labels = next(iter(memory.test_dataloader()))
    listing = list_images(root / "val")
    expected = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in listing.files])
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), expected)
    assert [listing.class_names[label] for label in labels] == [path.parent.name for path in listing.files]
    disk = ImageFolder(root, image_size=24, in_memory=False, num_workers=1, batch_size=16, in_channels=1)
    batches = list(disk.train_dataloader())
    assert isinstance(disk.splits.train, FileImages)
    assert batches[0][0].shape == (16, 1, 24, 24)
    assert batches[0][0].dtype == torch.uint8
    assert torch.equal(epoch(disk.train_dataloader(), 2), epoch(disk.train_dataloader(), 2))
    assert not torch.equal(epoch(disk.train_dataloader(), 2), epoch(disk.train_dataloader(), 3))


def test_samples_of_classes_are_training_images_spaced_over_the_files(photographs: Path, tmp_path: Path) -> None:
    root = tree(photographs, tmp_path, "train", "val")
    data = ImageFolder(root, image_size=32, val_fraction=0.01)
    train = data._listings().train
    assert train.labels.bincount().tolist() == [14, 14, 14]
    expected = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in train.files[::2]])
    for path in {*root.rglob("*.jpg")} - {*train.files[::2]}:
        path.write_bytes(b"not needed, and so not read")
    pixels, labels = data.class_samples(7)
    assert data.class_names == ["china", "digit", "flower"]
    assert labels.tolist() == [0] * 7 + [1] * 7 + [2] * 7
    assert np.array_equal(pixels.permute(0, 2, 3, 1).numpy(), expected)
    with pytest.raises(ValueError, match="can't read the image"):
        data.class_samples(8)


def test_memory_limit_decides(photographs: Path, tmp_path: Path) -> None:
    root = tree(photographs, tmp_path)
    assert isinstance(ImageFolder(root, memory_limit=1, image_size=32).splits.train, MemoryImages)
    assert isinstance(ImageFolder(root, memory_limit=1, image_size=128).splits.train, FileImages)


def test_test_images_are_not_opened_before_the_test(photographs: Path, tmp_path: Path) -> None:
    root = tree(photographs, tmp_path, "train", "test")
    broken = next((root / "test" / "flower").iterdir())
    broken.write_bytes(b"no image")
    data = ImageFolder(root, image_size=32)
    data.setup("fit")
    list(data.train_dataloader())
    list(data.val_dataloader())
    with pytest.raises(ValueError, match=f"can't read the image .*{broken.name}"):
        data.test_dataloader()


def test_a_truncated_image_is_named(photographs: Path, tmp_path: Path) -> None:
    root = tree(photographs, tmp_path)
    broken = sorted((root / "flower").iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:400])
    data = ImageFolder(root, image_size=32)

    def read_all() -> None:
        data.setup()
        data.test_dataloader()

    with pytest.raises(ValueError, match=f"can't read the image .*{broken.name}.*remove or repair"):
        read_all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_images_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 65535, 64).reshape(8, 8)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / f"ramp.{suffix}")
    expected = np.round(ramp.astype(np.uint16) / 257)
    assert np.array_equal(read_image(tmp_path / f"ramp.{suffix}", grayscale=True)[0], expected)
    assert np.array_equal(read_image(tmp_path / f"ramp.{suffix}"), np.stack([expected] * 3))


def test_a_large_jpeg_is_decoded_roughly_where_it_is_reduced_anyway(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 1600).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp, (1200, 1600)).copy()).save(tmp_path / "ramp.jpg", quality=95)
    whole, rough = read_image(tmp_path / "ramp.jpg"), read_image(tmp_path / "ramp.jpg", least=128)
    assert whole.shape == (3, 1200, 1600)
    assert rough.shape == (3, 150, 200)
    assert (rough.float() - whole.float().unfold(1, 8, 8).unfold(2, 8, 8).mean((-2, -1))).abs().max() < 3
    assert read_image(tmp_path / "ramp.jpg", least=1201).shape == whole.shape


def test_missing_empty_and_single_class_folders(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no image folder at"):
        ImageFolder(tmp_path / "nowhere").setup()
    with pytest.raises(ValueError, match="is empty"):
        ImageFolder(tmp_path).setup()
    shutil.copytree(photographs / "flower", tmp_path / "flower")
    with pytest.raises(ValueError, match=r"one class only \(flower\)"):
        ImageFolder(tmp_path).setup()
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match=r"class 'cat' .* has no image"):
        ImageFolder(tmp_path).setup()


def test_test_classes_must_be_the_training_classes(photographs: Path, tmp_path: Path) -> None:
    root = tree(photographs, tmp_path, "train", "test")
    shutil.rmtree(root / "test" / "flower")
    with pytest.raises(ValueError, match=r"classes of .* differ .*: flower"):
        ImageFolder(root).setup()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 0.0}, "val_fraction must be between"),
        ({"batch_size": 0}, "batch_size and image_size"),
        ({"mean": [0.5]}, "both mean and a positive std"),
        ({"mean": [0.5, 0.5], "std": [1.0, 1.0]}, "one value for each of 1 channels"),
        ({"in_channels": 2}, "digits have 1 channel"),
        ({"test_fraction": 1.5}, "test_fraction must be between"),
        ({"crop_padding": -1}, "must be >= 0"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Digits(**options)


def test_cifar_trees_and_official_files(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = CIFAR10(tree(photographs, tmp_path / "tree", "train", "test"), val_fraction=0.2)
    assert len(data.splits.train) == 36
    assert len(data.splits.test()) == 45
    before = data.splits.digest()
    extra = next((tmp_path / "tree/test").glob("*/*"))
    extra.write_bytes(extra.read_bytes()[:-1])
    after = data.splits.digest()
    assert [name for name in before if before[name] != after[name]] == ["test"]
    for kind in (CIFAR10, CIFAR100):
        with pytest.raises(FileNotFoundError, match=f"no complete {kind.__name__} at .*download"):
            kind(tmp_path / "nowhere").setup()
    official = tmp_path / "official" / "cifar-10-batches-py"
    official.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3072), dtype=np.uint8)
    batch = {"data": pixels, "labels": [i % 2 for i in range(20)]}
    for name in ("data_batch_1", "test_batch"):
        (official / name).write_bytes(pickle.dumps(batch))
    (official / "batches.meta").write_bytes(pickle.dumps({"label_names": ["even", "odd"]}))
    monkeypatch.setattr(CIFAR10.official, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(CIFAR10.official, "test_list", [["test_batch", None]])
    monkeypatch.setattr(CIFAR10.official, "meta", {"filename": "batches.meta", "key": "label_names", "md5": None})
    read = CIFAR10(tmp_path / "official")
    read.setup()
    assert read.class_names == ["even", "odd"]
    images, labels = next(iter(read.test_dataloader()))
    assert np.array_equal(images.reshape(20, -1).numpy(), pixels)
    assert labels.tolist() == batch["labels"]
    before = read.splits.digest()["test"]
    monkeypatch.setattr(CIFAR10.official, "test_list", [["test_batch", "another checksum"]])
    assert read.splits.digest()["test"] != before


def test_a_last_batch_of_one_image_is_left_out() -> None:
    class Seventeen(Digits):
        def open(self):  # type: ignore[no-untyped-def]
            splits = super().open()
            return type(splits)(splits.train.subset(torch.arange(17)), splits.val, splits.test, splits.class_names)

    assert isinstance(Seventeen(), ImageDataModule)
    assert [len(y) for _, y in Seventeen(batch_size=16).train_dataloader()] == [16]
    assert [len(y) for _, y in Seventeen(batch_size=15).train_dataloader()] == [15, 2]
