"""Scores of a meta predictor for a user's images."""

from itertools import product
from pathlib import Path
from typing import ClassVar

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from ednag.data.sampling import class_images
from ednag.fitness import MetaFitness, meta
from ednag.fitness.meta import cache_folder
from ednag.predictor import extractors
from ednag.predictor.extractors import FeatureExtractor
from ednag.predictor.meta_predictor import MetaPredictor
from ednag.predictor.saving import save_predictor
from ednag.spaces import NASBench201, TransNAS101Micro

SPACE = NASBench201()
CELLS = torch.tensor(list(product(range(5), repeat=6)))


class Means(FeatureExtractor):
    """Pixels of images of 4 x 4 as features; counts its calls."""

    name, dim, side = "means", 48, 4
    calls = 0

    def load(self) -> torch.nn.Module:
        return torch.nn.Flatten()

    def __call__(self, images: Tensor) -> Tensor:
        type(self).calls += 1
        return super().__call__(images)


class Pictures(pl.LightningDataModule):
    """Random images in a shuffled loader."""

    def __init__(self, images: Tensor, classes: int = 3) -> None:
        super().__init__()
        self.images, self.num_classes = images, classes
        self.class_names = [f"c{i}" for i in range(classes)]

    def train_dataloader(self) -> DataLoader:
        labels = torch.arange(len(self.images)) % self.num_classes
        return DataLoader(TensorDataset(self.images, labels), 32, shuffle=True)


def pictures(count: int = 200, size: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)


@pytest.fixture
def predictor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(extractors.EXTRACTORS, "means", Means)
    monkeypatch.setenv("EDNAG_CACHE", str(tmp_path / "cache"))
    save_predictor(MetaPredictor(extractor="means", width=24, members=3), tmp_path / "predictor")
    return tmp_path / "predictor"


def ready(predictor: Path, data: pl.LightningDataModule, **options: object) -> MetaFitness:
    fitness = MetaFitness(predictor, **options)
    fitness.setup(SPACE, data)
    return fitness


def test_all_cells_are_scored_by_the_predictor_for_these_images(predictor: Path) -> None:
    data = Pictures(pictures())
    fitness = ready(predictor, data)
    scores = fitness(CELLS, torch.ones(len(CELLS), dtype=torch.bool))
    shown = class_images(data, 50, 16)
    features = meta.class_features(shown.pixels, shown.labels, Means(), 20, 50).half().float()
    model = MetaPredictor(extractor="means", width=24, members=3).eval()
    own = CELLS[SPACE.code(CELLS) == SPACE.identity(CELLS)][:50]
    expected = model(own, model.embed(features)).mean(-1).double()
    assert torch.allclose(scores[SPACE.code(own)], expected, atol=1e-5)
    parts = fitness.details(own)
    assert torch.allclose(parts["predicted"], expected, atol=1e-5)
    careful = ready(predictor, data, beta=-2.0)
    assert torch.allclose(careful.score(own), parts["predicted"] - 2 * parts["uncertainty"])
    other = ready(predictor, Pictures(pictures(seed=1)))
    assert not torch.allclose(other.score(own), expected)


def test_images_are_looked_at_once_whatever_the_global_random_state(predictor: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = Means.calls
    first = ready(predictor, Pictures(pictures()))
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = ready(predictor, Pictures(pictures()))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert Means.calls == before + 1
    assert torch.equal(first.embedding, second.embedding)
    cached = next((tmp_path / "cache").rglob("*-means.safetensors"))
    cached.write_bytes(b"broken")
    third = ready(predictor, Pictures(pictures()))
    assert Means.calls == before + 2
    assert torch.equal(third.embedding, first.embedding)


def test_a_module_that_can_choose_images_is_asked_for_no_others() -> None:
    class Chooser(Pictures):
        asked: ClassVar[list[int]] = []

        def class_samples(self, most: int) -> tuple[Tensor, Tensor]:
            self.asked.append(most)
            return self.images[:60], torch.arange(60) % 3

        def train_dataloader(self) -> DataLoader:
            raise AssertionError("this reads everything")

    shown = class_images(Chooser(pictures()), 15, 16)
    assert Chooser.asked == [15]
    assert torch.equal(shown.pixels, pictures()[:45])
    assert shown.names == ["c0", "c1", "c2"]


def test_an_unwritable_cache_is_no_obstacle(predictor: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fitness = ready(predictor, Pictures(pictures()), cache=tmp_path / "file")
    assert torch.equal(fitness.embedding, ready(predictor, Pictures(pictures())).embedding)


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDNAG_CACHE", str(tmp_path / "a"))
    assert cache_folder() == tmp_path / "a" / "features"
    monkeypatch.delenv("EDNAG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "b" / "ednag" / "features"


def test_floats_deep_and_large_images_become_those_of_the_tasks() -> None:
    small = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(40, 3, 16, 16)
    shown = class_images(Pictures(small), 13, 16)
    assert torch.equal(shown.labels.bincount(), torch.full((3,), 13))
    for same in (
        (small.float() / 255 - 0.5) / 0.2,
        small.int() * 257,
        small.repeat_interleave(2, -1).repeat_interleave(2, -2),
    ):
        other = class_images(Pictures(same), 13, 16)
        assert other.pixels.dtype == torch.uint8
        assert (
            other.pixels.int() - shown.pixels[: len(other.pixels)].int()
        ).abs().max() <= 24  # the edges of a reduction
        assert (other.pixels.float().mean() - shown.pixels.float().mean()).abs() < 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "needs images of the task"),
        (Pictures(pictures(100), classes=1), "one class only"),
        (Pictures(pictures(50), classes=3), "class c2 has 16 training images, fewer than the coreset of 20"),
    ],
)
def test_unsuitable_images_are_refused(predictor: Path, data: pl.LightningDataModule | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MetaFitness(predictor).setup(SPACE, data)


def test_another_space_and_a_missing_predictor_are_refused(predictor: Path) -> None:
    with pytest.raises(ValueError, match="trained on nasbench201 and can't score transnas101_micro"):
        MetaFitness(predictor).setup(TransNAS101Micro(), Pictures(pictures()))
    with pytest.raises(FileNotFoundError, match="no predictor 'transnas101_micro'"):
        MetaFitness().setup(TransNAS101Micro(), Pictures(pictures()))
    with pytest.raises(ValueError, match="images must be >= 1"):
        MetaFitness(images=0)


def test_a_live_predictor_serves_and_a_state_of_another_is_refused(predictor: Path) -> None:
    data = Pictures(pictures())
    saved = ready(predictor, data)
    live = MetaPredictor(extractor="means", width=24, members=3, seed=1).train()
    fitness = MetaFitness()
    fitness.attach(live)
    fitness.setup(SPACE, data)
    assert not torch.allclose(fitness.score(CELLS[:9]), saved.score(CELLS[:9]))
    assert not live.training
    saved(CELLS[:9], torch.ones(9, dtype=torch.bool))
    again = ready(predictor, data)
    again.load_state_dict(saved.state_dict())
    assert again.evaluations == saved.evaluations
    with pytest.raises(ValueError, match="another predictor or other images"):
        fitness.load_state_dict(saved.state_dict())
