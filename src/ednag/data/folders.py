"""Folders of images as people have them: which folder is which split, which is a class, and what is neither."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ednag.data.decoding import Levels, read_image

IMAGE_SUFFIXES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of the files that count as images, in lower case."""

SPLIT_NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trainset", "train_set", "training_set"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation", "val_set", "valid_set", "validation_set"),
    "test": ("test", "testing", "testset", "test_set"),
}
"""What the folders of training, validation and test images are called, in lower case; also with other words, such as
``train_images``, where they hold folders."""

JUNK = ("__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found")
"""Folders that programs leave behind, in lower case; so are those, and files, whose names begin with a dot."""

JUNK_FILES = ("thumbs.db", "desktop.ini")


READ_WHOLE = 2**30
"""Image files of up to so many bytes in all are compared whole, to tell whether they have changed."""


@dataclass(frozen=True)
class Listing:
    """Image files and their labels.

    Attributes:
        files: paths, sorted within each class.
        labels: int64 ``(len(files),)``, indices into ``class_names``.
        class_names: names of the class folders, sorted.
        left_out: number of other files, by their ending.
    """

    files: list[Path]
    labels: Tensor
    class_names: list[str]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def subset(self, index: Tensor) -> Listing:
        """Keep the files at ``index``, int64 ``(n,)``."""
        return Listing([self.files[i] for i in index.tolist()], self.labels[index], self.class_names)

    def digest(self) -> str:
        """Sha256 of the files' names below their class folders, sizes and labels, and of their content.

        Beyond :data:`READ_WHOLE` bytes, the content of a thousand evenly spaced files stands for that of all.
        """
        sizes = [path.stat().st_size if path.is_file() else -1 for path in self.files]
        every = 1 if sum(sizes) <= READ_WHOLE else max(len(sizes) // 1000, 1)
        found = hashlib.sha256(json.dumps(self.class_names).encode())
        for i, (path, size, label) in enumerate(zip(self.files, sizes, self.labels.tolist(), strict=True)):
            found.update(f"{path.name} {size} {label}\n".encode())
            if i % every == 0 and size >= 0:
                found.update(path.read_bytes())
        return found.hexdigest()

    def readable(self, threads: int, levels: Levels | None = None) -> tuple[Listing, list[str]]:
        """Leave out the files that can't be read, by reading each.

        Returns:
            the others, and for each file that was left out, why.

        Raises:
            ValueError: if a class has no other image.
        """
        with ThreadPoolExecutor(threads) as pool:
            reasons = list(pool.map(partial(_unreadable, levels=levels), self.files))
        kept = torch.tensor([i for i, reason in enumerate(reasons) if reason is None], dtype=torch.int64)
        lost = set(self.labels.tolist()) - set(self.labels[kept].tolist())
        if lost:
            raise ValueError(f"class {self.class_names[min(lost)]!r} has no readable image")
        return self.subset(kept), [reason for reason in reasons if reason is not None]


@dataclass(frozen=True)
class Layout:
    """Where the images of each split are.

    Attributes:
        train: folder that holds the class folders of the training images.
        val: likewise of the validation images; ``None`` where they must be held out.
        test: likewise of the test images.
        left_out: folders that belong to no split.
    """

    train: Path
    val: Path | None = None
    test: Path | None = None
    left_out: tuple[str, ...] = ()


def find_layout(root: Path) -> Layout:
    """Tell splits and classes apart by the usual names of splits, in any case of letters.

    Args:
        root: holds the folder of a training split (``train``, ``Training``, ...), with others beside it, or else the
            class folders. A split without class folders doesn't count. A usual name comes before one with other words.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is unclear what a folder is.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"no image folder at {root}; give the folder that holds train/, or the classes (--data.root, "
            "also with --resume if it was moved)"
        )
    names = subfolders(root)
    named = _named_splits(root, names)
    for split, found in named.items():
        if len(found) > 1:
            raise ValueError(f"{root} holds {' and '.join(found)}, both usual names of a {split} folder; rename one")
    splits = [name for found in named.values() for name in found]
    if not splits:
        _refuse_nested(root, names)
        _refuse_alike(root, names)
        return Layout(root)
    if not named["train"]:
        others = [name for name in names if name not in splits]
        raise ValueError(
            f"{root} holds {', '.join(splits)}, the usual name of a split, but no training folder"
            + (f"; beside it are {', '.join(others[:5])}. Put classes into {root / 'train'}" if others else "")
            + ", or rename it if it is a class"
        )
    folders = {split: root / found[0] for split, found in named.items() if found}
    flat = [path.name for split, path in folders.items() if split != "train" and not subfolders(path)]
    val, test = (folders.get(split) if folders.get(split, root).name not in flat else None for split in ("val", "test"))
    return Layout(folders["train"], val, test, (*(n for n in names if n not in splits), *flat))


def list_images(folder: Path, class_names: Sequence[str] | None = None) -> Listing:
    """List a folder that holds one folder of images for each class, at any depth; links are followed.

    Args:
        folder: the folder.
        class_names: the classes that it must hold; those that it holds if omitted.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if there are fewer than two classes, a class has no image or is split itself, or the classes are
            not ``class_names``.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no image folder at {folder}; expected one folder for each class in it")
    names = subfolders(folder)
    if odd := [name for name in names if name.encode(errors="replace").decode() != name]:
        raise ValueError(f"the name of the folder {os.fsencode(odd[0])!r} in {folder} is not UTF-8; rename it")
    _check_classes(folder, names, class_names)
    files: list[Path] = []
    labels: list[int] = []
    left_out: Counter[str] = Counter()
    for label, name in enumerate(names):
        found, others = _partition(folder / name)
        if not found:
            raise ValueError(f"class {name!r} of {folder} has no image (endings: {', '.join(IMAGE_SUFFIXES)})")
        files += found
        labels += [label] * len(found)
        left_out.update(others)
    left_out.update(f"loose {Path(name).suffix.lower()}" for name in _direct_images(folder))
    _refuse_twice(files, labels, names)
    return Listing(files, torch.tensor(labels), names, left_out)


def _named_splits(root: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Folders that are called like each split: by its usual names, or else with other words (``seg_train``)."""
    found = {}
    for split in SPLIT_NAMES:
        exact = [name for name in names if _split_of(name) == split]
        found[split] = exact or [n for n in names if _worded_split(n) == split and _holds_folders_only(root / n)]
    return found


def _worded_split(name: str) -> str | None:
    """The one split that words of a name speak of."""
    found = {_SPLIT_WORDS[word] for word in _words(name) if word in _SPLIT_WORDS}
    return found.pop() if len(found) == 1 else None


def _words(name: str) -> list[str]:
    """Words of a name in lower case: ``TrainImages_1`` has ``train`` and ``images``."""
    return re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


_SPLIT_WORDS = {name: split for split, names in SPLIT_NAMES.items() for name in names if name.isalpha()}


def _holds_folders_only(folder: Path) -> bool:
    return bool(subfolders(folder)) and not _direct_images(folder)


def _direct_images(folder: Path) -> list[str]:
    """Names of the images that lie in a folder itself."""
    return [
        entry.name
        for entry in os.scandir(folder)
        if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and not _is_junk(entry.name) and not _is_folder(entry)
    ]


def images_below(folder: Path) -> list[Path]:
    """List the image files below a folder, sorted."""
    return _partition(folder)[0]


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, and of links to folders, sorted; without what programs leave behind."""
    return sorted(entry.name for entry in os.scandir(folder) if _is_folder(entry) and not _is_junk(entry.name))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; a link that leads nowhere, or round in circles, is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK


def _check_classes(folder: Path, names: Sequence[str], class_names: Sequence[str] | None) -> None:
    if not names:
        direct = "holds images, but no class folders" if _partition(folder)[0] else "is empty"
        raise ValueError(f"{folder} {direct}: expected one folder of images for each class in it")
    if len(names) == 1:
        inside = [name for name in subfolders(folder / names[0]) if _split_of(name)]
        hint = f"; did you mean {folder / names[0]}, which holds {', '.join(inside)}?" if inside else ""
        raise ValueError(
            f"{folder} has one class only ({names[0]}); classification needs two or more class folders{hint}"
        )
    if class_names is not None and names != list(class_names):
        odd = sorted(set(names) ^ set(class_names))
        raise ValueError(f"the classes of {folder} differ from those of the training images: {', '.join(odd[:5])}")


def _refuse_twice(files: Sequence[Path], labels: Sequence[int], names: Sequence[str]) -> None:
    """Refuse a file that links put into two classes."""
    known: dict[tuple[int, int], int] = {}
    for i, (path, label) in enumerate(zip(files, labels, strict=True)):
        try:
            first = known.setdefault(_place(path), i)
        except OSError:  # whoever reads it is told
            continue
        if labels[first] != label:
            raise ValueError(
                f"{files[first]} and {path} are the same file, in the classes {names[labels[first]]} and {names[label]}"
            )


def _refuse_nested(root: Path, names: Sequence[str]) -> None:
    """Refuse classes that are split themselves, ``cat/train``: their test images would be trained on."""
    for name in names if len(names) > 1 else ():
        inside = [inner for inner in subfolders(root / name) if _split_of(inner)]
        if inside:
            raise ValueError(
                f"{root / name} holds {', '.join(inside)}, the usual name of a split; expected the classes within the "
                f"splits, {Path(inside[0]) / name}, not the splits within the classes"
            )


def _refuse_alike(root: Path, names: Sequence[str]) -> None:
    """Refuse folders that hold folders of the same names, ``fold1/cat`` and ``fold2/cat``: which are the classes?"""
    inside = [tuple(subfolders(root / name)) for name in names]
    if (
        len(names) > 1
        and len(set(inside)) == 1
        and len(inside[0]) > 1
        and all(_holds_folders_only(root / n) for n in names)
    ):
        raise ValueError(
            f"{', '.join(names[:3])} in {root} hold folders of the same names ({', '.join(inside[0][:3])}), so it is "
            f"unclear which of them are classes; put the class folders into {root / 'train'} (and {root / 'test'})"
        )


def _split_of(name: str) -> str | None:
    return next((split for split, known in SPLIT_NAMES.items() if name.lower() in known), None)


def _partition(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Image files below a folder, sorted, and the number of others by their ending."""
    images: list[Path] = []
    others: Counter[str] = Counter()
    for path in _walk(folder, {_place(above) for above in folder.resolve().parents}):
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            images.append(path)
        else:
            others[suffix or "(no ending)"] += 1
    return sorted(images), others


def _walk(folder: Path, above: set[tuple[int, int]]) -> Iterator[Path]:
    """Files below a folder; links to folders are followed, but not to those that are above."""
    if (place := _place(folder)) in above:
        return
    above = above | {place}
    for entry in os.scandir(folder):
        if _is_junk(entry.name) or entry.name.lower() in JUNK_FILES:
            continue
        if _is_folder(entry):
            yield from _walk(Path(entry.path), above)
        else:
            yield Path(entry.path)


def _place(path: Path) -> tuple[int, int]:
    """What tells a file or a folder from all others, by whatever links it is reached."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _unreadable(path: Path, levels: Levels | None) -> str | None:
    """Why an image can't be read; ``None`` if it can."""
    try:
        read_image(path, levels=levels)
    except ValueError as error:
        return str(error)
    return None
