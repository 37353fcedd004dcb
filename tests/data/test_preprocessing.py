"""One transform: in memory, on disk, from a path, a picture or an array."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from ednag.data import CIFAR10, ImageFolder, NumpyImages
from ednag.data.decoding import Levels, read_image
from ednag.data.folders import images_below
from ednag.data.preprocessing import Preprocessing, check_room
from tests.data.many_kinds import scene, write_photographs

PLAIN = Preprocessing((24, 24), 3, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


@pytest.mark.parametrize("options", [{}, {"crop_pct": 0.875}, {"in_channels": 1}])
def test_images_in_memory_and_on_disk_are_the_same(options: dict[str, float], tmp_path: Path) -> None:
    root = write_photographs(tmp_path)
    memory, disk = (ImageFolder(root, image_size=24, in_memory=kept, **options) for kept in (True, False))
    for one in (memory, disk):
        one.setup("fit")
    for kept, read in ((memory.splits.val, disk.splits.val), (memory.splits.test(), disk.splits.test())):
        assert kept.files == read.files
        for i in range(len(kept)):
            assert torch.equal(kept[i][0], read[i][0])
    assert memory.preprocessing.levels == disk.preprocessing.levels == Levels(0, 4095)


@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_it_is_what_torchvision_makes_of_a_pillow_image(crop_pct: float) -> None:
    random = np.random.default_rng(0)
    how = Preprocessing((24, 24), 3, crop_pct=crop_pct)
    reference = v2.Compose([v2.Resize(round(24 / crop_pct)), v2.CenterCrop(24), v2.PILToTensor()])
    for _ in range(20):
        image = Image.fromarray(scene(random, 1))
        assert torch.equal(how.pixels(image), reference(image))


def test_squash_scales_both_sides() -> None:
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 96, dtype=np.uint8), (32, 1)))
    how = Preprocessing((16, 8), 1, crop_mode="squash")
    found = how.pixels(ramp)
    assert found.shape == (1, 16, 8)
    assert torch.equal(found[0, 0], found[0, 15])
    assert (found[0, 0].diff() > 20).all()


def test_any_form_of_an_image_gives_the_same(tmp_path: Path) -> None:
    array = scene(np.random.default_rng(3), 0)
    Image.fromarray(array).save(tmp_path / "a.png")
    forms = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        Image.fromarray(array),
        array,
        torch.tensor(array).permute(2, 0, 1),
    ]
    first, *others = [PLAIN.pixels(form) for form in forms]
    assert first.shape == (3, 24, 24)
    assert all(torch.equal(first, other) for other in others)
    normal = PLAIN.normalise(first[None])[0]
    expected = (first.double() / 255 - torch.tensor(PLAIN.mean)[:, None, None]) / torch.tensor(PLAIN.std)[:, None, None]
    torch.testing.assert_close(normal, expected.float(), atol=1e-5, rtol=1e-5)


def test_a_users_picture_is_not_turned() -> None:
    image = Image.fromarray(scene(np.random.default_rng(3), 0))
    image.getexif()[0x112] = 6
    before = np.array(image)
    turned = PLAIN.pixels(image)
    assert np.array_equal(np.array(image), before)
    assert torch.equal(turned, PLAIN.pixels(np.rot90(before, -1).copy()))


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), torch.zeros(3, 4, 4), torch.zeros(4, dtype=torch.uint8)]
)
def test_what_is_no_image_is_refused(bad: np.ndarray | torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"an image (array|tensor) must be uint8"):
        PLAIN.pixels(bad)


def test_the_description_says_all_and_is_read_back() -> None:
    how = Preprocessing((24, 32), 3, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0), "squash", 1.0, Levels(0, 4095))
    words = how.describe()
    assert words["input_size"] == [3, 24, 32]
    assert Preprocessing.of(words) == how
    with pytest.raises(
        ValueError, match=r"nothing says how image files become inputs \(missing: interpolation, crop_pct"
    ):
        Preprocessing.of({"input_size": [3, 8, 8], "mean": [0.0], "std": [1.0]})
    with pytest.raises(ValueError, match=r"crop_pct must be in \(0, 1\], got 1.5"):
        ImageFolder(Path("photos"), crop_pct=1.5)


def test_arrays_are_scaled_as_files_are(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (12, 20, 30, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(12) % 2, x_test=x, y_test=np.arange(12) % 2)
    data = NumpyImages(tmp_path / "a.npz", image_size=16)
    data.setup()
    tested = data.splits.test()
    assert data.preprocessing.crop_mode == "squash"
    for i in range(12):
        assert torch.equal(tested[i][0], data.preprocessing.pixels(x[i]))


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    files = images_below(write_photographs(tmp_path))
    assert len(files) == 138
    assert all(read_image(path, levels=Levels(0, 4095)).shape[0] == 3 for path in files)
    assert CIFAR10().preprocessing.crop_mode == "center"


def test_more_images_than_memory_are_refused_before_any_is_made() -> None:
    from ednag.data import Digits

    with pytest.raises(ValueError, match=r"1,000,000 x 1,000,000 pixels take .* GiB.*smaller image_size"):
        Digits(image_size=1_000_000).setup()
    check_room(1797, (224, 224), 3)
    with pytest.raises(ValueError, match="GiB"):
        check_room(10**9, (224, 224), 3)
