"""FGVC-Aircraft and Oxford-IIIT Pets, from folders in their official layout, against torchvision's readers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets as official

from ednag.data import FGVCAircraft, ImageFolder, OxfordPets
from ednag.data.describe import describe_data

VARIANTS = ("707-320", "A340-300", "Fokker 100", "Tu-134")
BREEDS = ("Abyssinian", "american_bulldog", "Bengal", "yorkshire_terrier")


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24 + seed % 3, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


@pytest.fixture(scope="module")
def aircraft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("aircraft")
    base = root / "fgvc-aircraft-2013b" / "data"
    names = {"variant": VARIANTS, "family": ("707", "A340", "Fokker 100", "Tu-134"), "manufacturer": ("A", "B")}
    for split, first in (("train", 0), ("val", 20), ("test", 40)):
        for number in range(first, first + 20):
            save(base / "images" / f"{number:07d}.jpg", number)
        for level, classes in names.items():
            lines = [f"{number:07d} {classes[number * 7 % len(classes)]}\n" for number in range(first, first + 20)]
            (base / f"images_{level}_{split}.txt").write_text("".join(lines))
    for level, classes in names.items():
        file = "families.txt" if level == "family" else f"{level}s.txt"
        (base / file).write_text("".join(f"{name}\n" for name in classes))
    return root


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pets") / "oxford-iiit-pet"
    (root / "annotations").mkdir(parents=True)
    for split, numbers in (("trainval", range(1, 9)), ("test", range(9, 12))):
        lines = []
        for label, breed in enumerate(BREEDS, 1):
            for number in numbers:
                save(root / "images" / f"{breed}_{number}.jpg", 100 * label + number)
                lines.append(f"{breed}_{number} {label} 1 1\n")
        (root / "annotations" / f"{split}.txt").write_text("".join(lines))
    return root


def labels_by_file(data: ImageFolder) -> "dict[str, dict[str, str]]":
    listings = data._listings()
    return {
        split: {
            file.name: listing.class_names[label] for file, label in zip(listing.files, listing.labels, strict=True)
        }
        for split, listing in (("train", listings.train), ("val", listings.val), ("test", listings.test))
    }


@pytest.mark.parametrize("level", ["variant", "family", "manufacturer"])
def test_aircraft_has_the_official_splits_and_labels(aircraft: Path, level: str) -> None:
    data = FGVCAircraft(aircraft, level=level, image_size=16, batch_size=4)  # type: ignore[arg-type]
    ours = labels_by_file(data)
    for split in ("train", "val", "test"):
        theirs = official.FGVCAircraft(str(aircraft), split=split, annotation_level=level)
        files = zip(theirs._image_files, theirs._labels, strict=True)
        assert ours[split] == {Path(file).name: theirs.classes[label] for file, label in files}
    data.prepare_data()
    data.setup("fit")
    task = describe_data(data)
    assert task.num_classes == len(data.class_names)
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (4, 3, 16, 16)
    assert labels.dtype == torch.int64


def test_pets_have_the_official_splits_and_labels(pets: Path) -> None:
    data = OxfordPets(pets, image_size=16, val_fraction=0.25)
    ours = labels_by_file(data)
    for split in ("trainval", "test"):
        theirs = official.OxfordIIITPet(str(pets.parent), split=split)
        names = {
            name: theirs.classes[label]
            for name, label in zip((p.name for p in theirs._images), theirs._labels, strict=True)
        }
        mine = ours["test"] if split == "test" else {**ours["train"], **ours["val"]}
        assert {file: breed.replace("_", " ").title() for file, breed in mine.items()} == names
    assert (len(ours["train"]), len(ours["val"]), len(ours["test"])) == (24, 8, 12)
    assert not ours["train"].keys() & ours["val"].keys()
    data.setup("fit")
    assert data.class_names == list(BREEDS)


def test_what_is_absent_or_wrong_is_told(aircraft: Path, pets: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="`ednag data download aircraft` fetches"):
        FGVCAircraft(tmp_path).setup("fit")
    with pytest.raises(FileNotFoundError, match="`ednag data download pets` fetches"):
        OxfordPets(tmp_path).setup("fit")
    with pytest.raises(ValueError, match="level must be variant, family or manufacturer, got 'plane'"):
        FGVCAircraft(aircraft, level="plane")  # type: ignore[arg-type]
    base = tmp_path / "fgvc-aircraft-2013b" / "data"
    base.mkdir(parents=True)
    (base / "variants.txt").write_text("707-320\n")
    (base / "images_variant_train.txt").write_text("0000001 Concorde\n")
    with pytest.raises(ValueError, match=r"images_variant_train\.txt is not the official list"):
        FGVCAircraft(tmp_path).setup("fit")
