import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from ednag.data.augmentation import (
    Augmentation,
    crop_and_flip,
    cutout,
    jitter,
    normalise,
    rand_augment,
    resized_crop,
)


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


def test_resized_crops_are_parts_of_the_image_of_the_promised_sizes() -> None:
    """Images whose pixels are their own coordinates tell which part was taken, and whether it was mirrored."""
    place = (torch.arange(64) + 0.5) / 64
    x = torch.stack([place.expand(64, 64), place[:, None].expand(64, 64)]).expand(4000, 2, 64, 64)
    out = resized_crop(x, 0.3, True, generator())
    across, down = out[:, 0, 32], out[:, 1, :, 32]
    width, height = (across[:, 48] - across[:, 16]) * 2, (down[:, 48] - down[:, 16]) * 2  # linear inside
    mirrored = width < 0
    area, ratio = width.abs() * height, width.abs() / height
    assert mirrored.float().mean() == pytest.approx(0.5, abs=0.03)
    assert area.min() > 0.299
    assert area.max() < 1.001
    assert area.mean() == pytest.approx(0.65, abs=0.02)
    assert ratio.min() > 0.749
    assert ratio.max() < 1.334
    for line, size in ((across, width.abs()), (down, height)):
        middle = (line[:, 31] + line[:, 32]) / 2
        assert (middle - size / 2 > -0.001).all()  # the part lies within the image
        assert (middle + size / 2 < 1.001).all()
    plain = resized_crop(x[:50], 0.3, False, generator())
    assert (plain[:, 0, 32, 48] > plain[:, 0, 32, 16]).all()


def test_jitter_agrees_with_torchvision_factor_by_factor() -> None:
    x = images(5)
    out = jitter(x, 0.4, generator(2))
    factors = 1 + 0.4 * (2 * torch.rand(3, 5, 1, 1, 1, generator=generator(2)) - 1)
    for before, after, factor in zip(x, out, factors[..., 0, 0, 0].T.tolist(), strict=True):
        expected = v2.functional.adjust_brightness(before.float() / 255, factor[0])
        expected = v2.functional.adjust_contrast(expected, factor[1])
        expected = v2.functional.adjust_saturation(expected, factor[2])
        torch.testing.assert_close(after, 255 * expected, rtol=1e-3, atol=0.2)
    assert torch.equal(jitter(x, 0.0, generator()), x.float())
    grey = jitter(x[:, :1], 0.4, generator())
    assert grey.shape == (5, 1, 6, 6)


@pytest.mark.parametrize("channels", [1, 3])
def test_rand_augment_follows_the_generator_and_changes_each_image_by_itself(channels: int) -> None:
    same = images(1, channels, 24).expand(30, -1, -1, -1)
    before = torch.get_rng_state()
    out = rand_augment(same, 9, generator(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert out.dtype == torch.uint8
    assert torch.equal(out, rand_augment(same.float(), 9, generator(1)))
    assert not torch.equal(out, rand_augment(same, 9, generator(2)))
    assert len({one.numpy().tobytes() for one in out}) > 10
    far, near = ((rand_augment(same, k, generator(3)).float() - same).abs().mean() for k in (30, 1))
    assert far > near


@pytest.mark.parametrize(
    "options", [{"min_area": 0.0}, {"colour": 1.0}, {"min_area": 0.5, "crop_padding": 4}, {"rand_augment": 31}]
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"min_area|cropped in one way|rand_augment"):
        Augmentation(**options)  # type: ignore[arg-type]
