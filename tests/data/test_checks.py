"""A user's own data module is checked before it is trained on."""

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from ednag.data.checks import check_loaders
from ednag.data.describe import describe_data

X = torch.randn(12, 3, 8, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 3


class Own(pl.LightningDataModule):
    """Loaders of whatever a test gives them; what is not given is not overridden."""

    num_classes = 3

    def __init__(self, **loaders: Any) -> None:
        super().__init__()
        for split, batches in {"train": [(X, Y)], "val": [(X, Y)], "test": [(X, Y)], **loaders}.items():
            if batches is not ...:
                setattr(self, f"{split}_dataloader", lambda batches=batches: batches)


class Loader:
    """What DataLoaders are to Lightning: an iterable that is no list."""

    def __init__(self, *batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class Broken(torch.utils.data.Dataset[Any]):
    """A data set with a fault."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        raise KeyError("label")


GOOD = Loader((X, Y))


def own(**loaders: Any) -> Own:
    return Own(**{"train": GOOD, "val": GOOD, "test": GOOD, **loaders})


def test_a_good_one_is_described_and_randomness_is_left_alone() -> None:
    shuffled = DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    assert describe_data(own(train=[shuffled], val={"only": shuffled})).image_size == (8, 6)
    assert torch.equal(torch.rand(1), expected)


PICTURES = DataLoader([(Image.new("RGB", (4, 4)), 0)] * 4, batch_size=2)


@pytest.mark.parametrize(
    ("loaders", "words"),
    [
        (
            {"train": Loader({"image": X, "label": Y})},
            "train_dataloader must yield pairs .* a dictionary of image, label",
        ),
        ({"train": Loader((X, Y, Y))}, r"it yields a tuple of 3 \(Tensor\)"),
        ({"train": Loader(X)}, "it yields a float32"),
        ({"train": PICTURES}, r"train_dataloader can't make a batch \(.*PIL"),
        ({"val": Loader(([Image.new("L", (4, 4))], Y))}, r"val_dataloader must yield .* a list of 1 \(Image\)"),
        ({"val": ...}, "Own.val_dataloader is missing"),
        ({"test": ...}, "Own.test_dataloader is missing"),
        ({"val": []}, "Own.val_dataloader is missing"),
        ({"val": [GOOD, GOOD]}, "must return one loader, it returns 2"),
        ({"val": iter([(X, Y)])}, "Own.val_dataloader must return a loader that has a length"),
        ({"train": Loader((torch.rand(12, 8, 8, 3), Y))}, "are .12, 8, 8, 3.: move the last axis to the second place"),
        ({"train": DataLoader(Broken())}, "Own raised KeyError: 'label'"),
        ({"train": Loader()}, "Own's train images: there are none"),
        ({"train": Loader((X[0], Y))}, "must have the shape"),
        ({"test": Loader(((X * 9).to(torch.uint8), Y))}, "test images must be floats, they are uint8"),
        ({"train": Loader((X / 0, Y))}, "not finite"),
        ({"val": Loader((X[..., :5], Y))}, "val images are 3 x 8 x 5, its train images 3 x 8 x 6"),
        ({"train": Loader((X, Y + 1))}, r"labels must be 0 to 2 .* go from 1 to 3"),
        ({"train": Loader((X, Y - 1))}, "go from -1 to 1"),
        ({"train": Loader((X, Y[:, None]))}, r"must be int64 \(12,\).*int64 \(12, 1\)"),
        ({"train": Loader((X, Y.float()))}, "they are float32"),
        ({"train": Loader((X, Y.int()))}, "they are int32"),
        ({"train": Loader((X, torch.eye(3)[Y]))}, r"float32 \(12, 3\)"),
    ],
)
def test_what_can_not_be_trained_on_is_told_in_one_sentence(loaders: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words) as told:
        check_loaders(own(**loaders), 3)
    assert "\n" not in str(told.value)


def test_a_module_that_says_something_else_than_it_yields() -> None:
    data = own()
    data.in_channels, data.image_size = 3, 8
    with pytest.raises(ValueError, match=r"says in_channels=3 and image_size=8, its images are \(3, 8, 6\)"):
        describe_data(data)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("class_names", ["a"], "class_names must hold a text for each of 3 classes"),
        ("class_names", [1, 2, 3], "class_names must hold a text"),
        ("normalisation", [0.5], "normalisation must be"),
        ("image_size", "8", "image_size must be a side, or height and width, got '8'"),
        ("image_size", (3, 8, 6), "image_size must be a side, or height and width"),
        ("num_classes", True, "an integer >= 2"),
    ],
)
def test_odd_attributes_are_named(name: str, value: object, words: str) -> None:
    data = own()
    data.in_channels = 3
    setattr(data, name, value)
    with pytest.raises(ValueError, match=words):
        describe_data(data)


def test_absent_attributes_and_tensors_will_do() -> None:
    data = own()
    data.class_names, data.normalisation = None, {"mean": torch.zeros(3), "std": [1, 1, 1]}
    told = describe_data(data)
    assert told.class_names == []
    assert told.preprocessing == {"input_size": [3, 8, 6], "mean": [0.0] * 3, "std": [1.0] * 3}


def test_what_a_setup_raises_is_one_sentence() -> None:
    data = own()
    data.setup = lambda stage: {}["folder"]
    with pytest.raises(ValueError, match="Own raised KeyError: 'folder'"):
        describe_data(data)
