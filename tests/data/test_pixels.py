"""Images of one size and eight bits."""

import numpy as np
import pytest
import torch
from PIL import Image

from ednag.data.pixels import fit_square, to_bytes


@pytest.mark.parametrize("shape", [(20, 31), (31, 20), (12, 12), (9, 40)])
def test_the_centre_is_kept_as_pillow_would(shape: tuple[int, int]) -> None:
    height, width = shape
    ramp = (torch.arange(width) * 200 / width + torch.arange(height)[:, None] * 55 / height).round().to(torch.uint8)
    ramp = ramp.expand(3, -1, -1)
    found = fit_square(ramp, 12)
    short, scale = min(shape), 12 / min(shape)
    box = ((width - short) / 2, (height - short) / 2, (width + short) / 2, (height + short) / 2)
    image = Image.fromarray(ramp.permute(1, 2, 0).numpy())
    expected = np.asarray(image.resize((12, 12), Image.Resampling.BILINEAR, box=box))
    assert found.shape == (3, 12, 12)
    step = 200 / width / scale + 55 / height / scale  # the centre is at whole pixels: half a pixel off at most
    assert np.abs(found.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1 + step


def test_a_batch_is_its_images_and_the_right_size_is_left_alone() -> None:
    images = torch.randint(0, 256, (5, 1, 17, 23), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.equal(fit_square(images, 8), torch.stack([fit_square(one, 8) for one in images]))
    assert fit_square(images[..., :17], 17).data_ptr() == images.data_ptr()


def test_pixels_span_eight_bits() -> None:
    assert to_bytes(torch.tensor([-1.0, 0.0, 1.0, 9.0]), -1.0, 1.0).tolist() == [0, 128, 255, 255]
    assert to_bytes(torch.tensor([3, 4], dtype=torch.uint8), 3, 4).tolist() == [3, 4]
    assert to_bytes(torch.tensor([2.0, 2.0]), 2.0, 2.0).tolist() == [0, 0]
