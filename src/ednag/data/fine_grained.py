"""The two sets of photographs that the field trains on beside CIFAR: aircraft and pets, with their official splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from ednag.core.reading import read_bytes, reading
from ednag.data.files import stratified_split
from ednag.data.folders import Listing
from ednag.data.image_folder import ImageFolder, Listings


class FGVCAircraft(ImageFolder):
    """FGVC-Aircraft (Maji et al. 2013): 10,000 photographs of 100 variants of aircraft.

    The official splits: 3,334 images for training, 3,333 for validation, 3,333 for the test. Each photograph has a banner
    of 20 pixels at its lower edge with the photographer's name; it is not cut off.

    Args:
        root: folder that holds ``fgvc-aircraft-2013b``, where ``ednag data download aircraft`` puts it.
        level: what a class is: a ``variant`` (100), a ``family`` (70) or a ``manufacturer`` (30).
        options: see :class:`ImageFolder`; ``val_fraction`` and ``test_fraction`` are unused.

    Raises:
        ValueError: for an unknown level.

    Examples:
        >>> FGVCAircraft(level="family", image_size=224).image_size  # nothing is read before setup
        224
    """

    folder = "fgvc-aircraft-2013b"

    def __init__(
        self,
        root: Path = Path("data/downloads/aircraft"),
        level: Literal["variant", "family", "manufacturer"] = "variant",
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        if level not in ("variant", "family", "manufacturer"):
            raise ValueError(f"level must be variant, family or manufacturer, got {level!r}")
        self.level = level

    def _listings(self) -> Listings:
        """Files of the official splits."""
        base = self.root / self.folder / "data"
        names = _lines(base / ("families.txt" if self.level == "family" else f"{self.level}s.txt"), "aircraft")
        train, val, test = (self._split(base, split, names) for split in ("train", "val", "test"))
        return Listings(train, val, test, f"{base}: the official training, validation and test images")

    def _split(self, base: Path, split: str, names: Sequence[str]) -> Listing:
        """The images of a split: each line of its list is a number and the name of a class."""
        path = base / f"images_{self.level}_{split}.txt"
        rows = [(image, label) for image, _, label in (line.partition(" ") for line in _lines(path, "aircraft"))]
        return _listed(path, rows, base / "images", names)


class OxfordPets(ImageFolder):
    """Oxford-IIIT Pets (Parkhi et al. 2012): 7,349 photographs of 37 breeds of cats and dogs.

    The official splits: 3,680 images for training, of which ``val_fraction`` is held out for validation, and 3,669 for
    the test.

    Args:
        root: folder that holds ``images`` and ``annotations``, where ``ednag data download pets`` puts them.
        options: see :class:`ImageFolder`; ``test_fraction`` is unused.

    Examples:
        >>> OxfordPets(image_size=224, val_fraction=0.1).val_fraction  # nothing is read before setup
        0.1
    """

    def __init__(self, root: Path = Path("data/downloads/pets"), **options: Any) -> None:
        super().__init__(root, **options)

    def _listings(self) -> Listings:
        """Files of the official splits; validation images are held out."""
        lists = [self.root / "annotations" / f"{split}.txt" for split in ("trainval", "test")]
        rows = [[_pet(line, path) for line in _lines(path, "pets") if not line.startswith("#")] for path in lists]
        breeds = sorted({(number, name.rpartition("_")[0]) for part in rows for name, number in part})
        names = [name for _, name in breeds]
        train, test = (
            _listed(path, [(name, name.rpartition("_")[0]) for name, _ in part], self.root / "images", names)
            for path, part in zip(lists, rows, strict=True)
        )
        kept, held = stratified_split(train.labels, self.val_fraction, self.seed, names)
        origin = f"{self.root}: the official training images, of which validation images are held out, and test images"
        return Listings(train.subset(kept), train.subset(held), test, origin)


def _lines(path: Path, name: str) -> list[str]:
    """Lines of a file of the release, without empty ones."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no {path}; `ednag data download {name}` fetches the images, or give root their folder"
        )
    with reading(path, "a list of the release", f"fetch it again: `ednag data download {name}`"):
        return [line.strip() for line in read_bytes(path).decode("utf-8").splitlines() if line.strip()]


def _pet(line: str, path: Path) -> tuple[str, int]:
    """Name of an image, and number of its breed."""
    with reading(path, "a list of the release", "fetch it again: `ednag data download pets`"):
        name, number, *_ = line.split()
        return name, int(number)


def _listed(path: Path, rows: Sequence[tuple[str, str]], images: Path, names: Sequence[str]) -> Listing:
    """The images of a list, by class and then by name.

    Args:
        path: of the list, for messages.
        rows: name and class of each image.
        images: folder of the images.
        names: of all classes; a label is a place among them.
    """
    place = {name: label for label, name in enumerate(names)}
    if not rows or not {label for _, label in rows} <= place.keys():
        raise ValueError(f"{path} is not the official list: it is empty, or names classes that are none")
    ordered = sorted((place[label], images / f"{image}.jpg") for image, label in rows)
    return Listing([file for _, file in ordered], torch.tensor([label for label, _ in ordered]), list(names))
