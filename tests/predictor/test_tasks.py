"""Task definitions: drawn the same again, and refused where the images are others."""

from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from ednag.data.datasets import Digits
from ednag.data.sampling import Images, Pool, open_pool
from ednag.predictor.tasks import TaskDefinition, draw, read_tasks, sample_tasks, write_tasks

LIMITS = {"train": 40, "val": 20, "test": 20}


def pool(classes: int = 6, each: int = 30) -> Pool:
    generator = torch.Generator().manual_seed(1)

    def some(count: int) -> Images:
        pixels = torch.randint(0, 256, (classes * count, 3, 8, 8), generator=generator, dtype=torch.uint8)
        return Images(pixels, torch.arange(classes).repeat(count))

    return Pool(some(each), some(10))


class Floats(pl.LightningDataModule):
    """A user's own module: shuffled, normalised floats of one channel."""

    num_classes = 2

    def __init__(self) -> None:
        super().__init__()
        ramp = torch.linspace(-1, 3, 40).view(40, 1, 1, 1).expand(40, 1, 6, 6)
        self.parts = TensorDataset(ramp, torch.arange(40) % 2)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.parts, batch_size=16, shuffle=True)

    val_dataloader = test_dataloader = train_dataloader


def test_a_draw_is_stratified_disjoint_and_repeatable() -> None:
    source = pool()
    task = TaskDefinition("a", "noise", (1, 4), 8, 8, False, 7, LIMITS)
    defined, images = draw(source, task)
    assert dict(defined.drawn) == {"train": 40, "val": 20, "test": 20}
    assert images.train.labels.bincount().tolist() == [20, 20]
    rows = [set(map(bytes, part.pixels.flatten(1).numpy())) for part in images]
    assert not rows[0] & rows[1]
    assert not (rows[0] | rows[1]) & rows[2]
    fours = set(map(bytes, source.train.pixels[source.train.labels == 4].flatten(1).numpy()))
    assert set(map(bytes, images.train.pixels[images.train.labels == 1].flatten(1).numpy())) <= fours
    again, same = draw(source, defined)
    assert again == defined
    assert torch.equal(same.val.pixels, images.val.pixels)
    with pytest.raises(ValueError, match="are not those that task a was made of"):
        draw(pool(each=31), defined)
    with pytest.raises(ValueError, match="class 9 of noise"):
        draw(source, replace(task, classes=(1, 9)))


def test_a_small_class_keeps_images_for_validation() -> None:
    defined, images = draw(pool(each=9), TaskDefinition("a", "noise", (0, 1), 8, 8, False, 0, LIMITS))
    assert dict(defined.drawn) == {"train": 12, "val": 6, "test": 20}
    assert images.val.labels.bincount().tolist() == [3, 3]


def test_colour_and_detail_are_removed() -> None:
    plain = TaskDefinition("a", "noise", (0, 1), 8, 8, False, 7, LIMITS)
    images = draw(pool(), plain)[1].train.pixels.float()
    gray = draw(pool(), replace(plain, gray=True))[1].train.pixels.float()
    assert torch.equal(gray[:, 0], gray[:, 2])
    expected = 0.2989 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]
    assert (gray[:, 0] - expected).abs().max() <= 1
    coarse = draw(pool(), replace(plain, detail=4))[1].train.pixels.float()
    assert (coarse[..., 1:] - coarse[..., :-1]).abs().mean() < 0.6 * (images[..., 1:] - images[..., :-1]).abs().mean()


def test_tasks_are_subsets_of_all_sizes_and_survive_a_file(tmp_path: Path) -> None:
    tasks = sample_tasks("letters", 30, 60, LIMITS, 16, most_classes=20)
    assert tasks == sample_tasks("letters", 30, 60, LIMITS, 16, most_classes=20)
    assert tasks != sample_tasks("others", 30, 60, LIMITS, 16, most_classes=20)
    sizes = {len(task.classes) for task in tasks}
    assert (min(sizes), max(sizes), len(tasks[0].classes)) == (5, 20, 20)
    assert all(len(set(task.classes)) == len(task.classes) and max(task.classes) < 30 for task in tasks)
    assert {task.gray for task in tasks} == {False, True}
    assert len({task.id for task in tasks}) == 60
    write_tasks(tmp_path / "tasks.json", "nasbench201", tasks)
    assert read_tasks(tmp_path / "tasks.json") == tasks
    (tmp_path / "bad.json").write_text('{"tasks": [{"id": "a"}]}')
    with pytest.raises(ValueError, match=r"not the task definitions of a collection \(no 'classes'\)"):
        read_tasks(tmp_path / "bad.json")


def test_any_data_module_makes_a_pool() -> None:
    state = torch.random.get_rng_state()
    source = open_pool(Floats(), image_size=8)
    assert torch.equal(state, torch.random.get_rng_state())
    assert source.train.pixels.shape == (80, 3, 8, 8)
    assert source.train.pixels.dtype == torch.uint8
    assert (int(source.train.pixels.min()), int(source.train.pixels.max())) == (0, 255)
    digits = open_pool(Digits(image_size=16), image_size=16)
    assert len(digits.train.labels) + len(digits.test.labels) == 1797
    assert digits.num_classes == 10
