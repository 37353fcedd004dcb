"""Tasks for a meta predictor: subsets of image data sets, defined by a few numbers and drawn again from the images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from ednag.core.reading import checked, read_json
from ednag.core.storage import write_json
from ednag.data.sampling import Images, Pool


class MissingImagesError(ValueError):
    """The images that a task was made of are not on this machine: there are none, or other ones."""


class TaskImages(NamedTuple):
    """The images of one task, labels ``0 .. K - 1``."""

    train: Images
    val: Images
    test: Images


@dataclass(frozen=True)
class TaskDefinition:
    """A task, as far as it can be told without its images.

    Attributes:
        id: unique name.
        source: name of the data set that the images are from.
        classes: labels of the source that are its classes ``0 .. K - 1``.
        image_size: side of the images in pixels.
        detail: side that they were reduced to first; ``image_size`` for no reduction.
        gray: whether colour was removed.
        seed: of the draw of images.
        images: most images of each split, ``{"train": .., "val": .., "test": ..}``.
        drawn: how many there are; empty before the draw.
        sha256: of their pixels; empty before the draw.
    """

    id: str
    source: str
    classes: tuple[int, ...]
    image_size: int
    detail: int
    gray: bool
    seed: int
    images: Mapping[str, int]
    drawn: Mapping[str, int] = field(default_factory=dict)
    sha256: str = ""


def draw(pool: Pool, task: TaskDefinition) -> tuple[TaskDefinition, TaskImages]:
    """Draw the images of a task.

    Args:
        pool: of its source, at its image size.
        task: its definition; the images of each split are shared equally by its classes, if there are enough. Two
            thirds of a class's images or more train, the others validate.

    Returns:
        the definition with the numbers of images drawn and their digest, and the images.

    Raises:
        ValueError: if the pool lacks one of its classes.
        MissingImagesError: if its digest is known and another one.
    """
    generator = torch.Generator().manual_seed(task.seed)
    share = {split: max(most // len(task.classes), 1) for split, most in task.images.items()}
    parts: dict[str, list[tuple[Images, Tensor]]] = {"train": [], "val": [], "test": []}
    for label in task.classes:
        inside = _members(pool.train, label, task, generator)
        train = min(share["train"], len(inside) - max(len(inside) // 3, 1))
        parts["train"].append((pool.train, inside[:train]))
        parts["val"].append((pool.train, inside[train : train + share["val"]]))
        parts["test"].append((pool.test, _members(pool.test, label, task, generator)[: share["test"]]))
    drawn = TaskImages(**{split: _gather(some, task) for split, some in parts.items()})
    digest = hashlib.sha256(b"".join(part.pixels.numpy().tobytes() for part in drawn)).hexdigest()
    if task.sha256 not in ("", digest):
        raise MissingImagesError(
            f"the images of {task.source} are not those that task {task.id} was made of (sha256 of its pixels is "
            f"{digest[:12]}.., not {task.sha256[:12]}..); use the same files, or collect anew"
        )
    counts = {split: len(part.labels) for split, part in zip(parts, drawn, strict=True)}
    return replace(task, drawn=counts, sha256=digest), drawn


def _members(images: Images, label: int, task: TaskDefinition, generator: torch.Generator) -> Tensor:
    """Images of one class in a random order."""
    inside = (images.labels == label).nonzero().flatten()
    if len(inside) < 2:
        raise ValueError(f"task {task.id} needs images of class {label} of {task.source}, which has {len(inside)}")
    return inside[torch.randperm(len(inside), generator=generator)]


def _gather(chosen: Sequence[tuple[Images, Tensor]], task: TaskDefinition) -> Images:
    """Copy images out of a pool, at the task's colour and detail."""
    pixels = torch.cat([images.pixels[index] for images, index in chosen])
    labels = torch.cat([torch.full((len(index),), k) for k, (_, index) in enumerate(chosen)])
    if task.gray:
        pixels = TF.rgb_to_grayscale(pixels, num_output_channels=3)
    if task.detail < task.image_size:
        small = TF.resize(pixels, [task.detail, task.detail], antialias=True)
        pixels = TF.resize(small, [task.image_size, task.image_size], antialias=True)
    return Images(pixels.contiguous(), labels)


def sample_tasks(
    source: str,
    num_classes: int,
    count: int,
    images: Mapping[str, int],
    image_size: int,
    most_classes: int = 20,
    changed: float = 0.25,
    seed: int = 0,
) -> list[TaskDefinition]:
    """Define tasks of one source: the first with as many of its classes as allowed, then random subsets.

    Args:
        source: its name.
        num_classes: its number of labels.
        count: how many tasks.
        images: most images of each split.
        image_size: side of the images in pixels.
        most_classes: most classes of a task; the fewest are a quarter of that, or all that there are.
        changed: probability that a task but the first is in grey, and that it is reduced to half of the detail.
        seed: of the choice.
    """
    digest = hashlib.sha256(f"{source}/{seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
    most = min(most_classes, num_classes)
    fewest = min(max(most_classes // 4, 2), most)
    tasks = []
    for number in range(count):
        size = most if number == 0 else int(torch.randint(fewest, most + 1, (), generator=generator))
        classes = torch.randperm(num_classes, generator=generator)[:size].sort().values.tolist()
        gray, blurred = (torch.rand(2, generator=generator) < (changed if number else 0.0)).tolist()
        detail = image_size // 2 if blurred else image_size
        draw_seed = int(torch.randint(2**31, (), generator=generator))
        tasks.append(
            TaskDefinition(
                f"{source}-{number:03d}", source, tuple(classes), image_size, detail, gray, draw_seed, images
            )
        )
    return tasks


def write_tasks(path: Path, space: str, tasks: Sequence[TaskDefinition]) -> None:
    """Write task definitions as JSON, atomically."""
    write_json(path, {"space": space, "tasks": [asdict(task) for task in tasks]})


def read_tasks(path: Path) -> list[TaskDefinition]:
    """Read what :func:`write_tasks` wrote.

    Raises:
        ValueError: if it is something else.
    """
    return read_json(
        Path(path),
        "the task definitions of a collection",
        "`ednag collect` writes them",
        lambda content: [
            checked(TaskDefinition, {**task, "classes": tuple(task["classes"])}) for task in content["tasks"]
        ],
    )
