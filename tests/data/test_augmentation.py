import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from ednag.data.augmentation import Augmentation, crop_and_flip, cutout, normalise


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 40, c: int = 3, size: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (n, c, size, size), generator=generator(9), dtype=torch.uint8)


@pytest.mark.parametrize(("padding", "flip"), [(0, True), (2, False), (2, True)])
def test_each_image_is_one_of_the_possible_crops(padding: int, flip: bool) -> None:
    x = images(600)
    out = crop_and_flip(x, padding, flip, generator())
    seen = set()
    for before, after in zip(x, out, strict=True):
        padded = F.pad(before, (padding,) * 4)
        places = [
            (dy, dx, mirrored)
            for dy in range(2 * padding + 1)
            for dx in range(2 * padding + 1)
            for mirrored in ((False, True) if flip else (False,))
            if torch.equal(after, (lambda v, m: v.flip(-1) if m else v)(padded[:, dy : dy + 6, dx : dx + 6], mirrored))
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == (2 * padding + 1) ** 2 * (1 + flip)  # every case occurs in 600 images


def test_same_generator_same_crops() -> None:
    x = images()
    assert torch.equal(crop_and_flip(x, 4, True, generator(3)), crop_and_flip(x, 4, True, generator(3)))
    assert not torch.equal(crop_and_flip(x, 4, True, generator(3)), crop_and_flip(x, 4, True, generator(4)))


def test_cutout_blanks_one_square_around_a_uniform_centre() -> None:
    x = torch.ones(2000, 2, 8, 8)
    out = cutout(x, 4, generator())
    assert set(out.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(out[:, 0], out[:, 1])
    gone = out[:, 0] == 0
    for one in gone[:50]:
        rows, columns = one.any(1), one.any(0)
        assert torch.equal(one, rows[:, None] & columns[None])
        assert rows.sum() <= 4
        assert columns.sum() <= 4
    # A centre at c blanks c-2 .. c+1, so the sides covered for c = 0..7 are 2,3,4,4,4,4,4,3: 3.5 of 8 on average.
    assert gone.float().mean() == pytest.approx((3.5 / 8) ** 2, abs=0.01)


def test_normalise_agrees_with_torchvision() -> None:
    x, mean, std = images(), [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    reference = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])(x)
    torch.testing.assert_close(normalise(x, torch.tensor(mean), torch.tensor(std)), reference, atol=1e-5, rtol=1e-5)


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="crop_padding and cutout must be >= 0"):
        Augmentation(crop_padding=-1)
