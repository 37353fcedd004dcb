"""Image files as cameras, scanners and designers save them."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ednag.data.decoding import Levels, find_levels, read_image
from tests.data.many_kinds import deep_png

UPRIGHT = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
"""What a viewer shows."""

STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}
"""What a camera stores for each orientation of the EXIF standard."""


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("ending", ["png", "tif", "lzw.tif", "webp", "jpg"])
def test_photographs_are_turned_upright(orientation: int, ending: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    path = tmp_path / f"photograph.{ending}"
    options = {"lzw.tif": {"compression": "tiff_lzw"}, "webp": {"lossless": True}, "jpg": {"quality": 100}}
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    stored.save(path, exif=exif, **options.get(ending, {}))
    found = read_image(path, grayscale=True)[0].numpy().astype(int)
    assert found.shape == UPRIGHT.shape
    assert np.abs(found - UPRIGHT).max() <= (6 if ending == "jpg" else 1)


@pytest.mark.parametrize(("most", "white"), [(1.0, 1.0), (255.0, 255.0), (200.0, 255.0), (4000.0, 4095.0)])
def test_float_images_keep_their_shades(most: float, white: float, tmp_path: Path) -> None:
    values = np.linspace(0, most, 64, dtype=np.float32).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.array_equal(read_image(tmp_path / "a.tif")[0], np.round(values.astype(float) * 255 / white))
    assert find_levels([tmp_path / "a.tif"]) == Levels(0.0, white)


def test_float_images_of_unknown_meaning_are_refused_until_levels_are_given(tmp_path: Path) -> None:
    values = np.linspace(-200, 400, 16, dtype=np.float32).reshape(4, 4)
    Image.fromarray(values).save(tmp_path / "scan.tif")
    with pytest.raises(ValueError, match=r"scan.tif .*from -200 to 400 may mean anything.*--data.levels"):
        read_image(tmp_path / "scan.tif")
    found = read_image(tmp_path / "scan.tif", levels=Levels(-100, 300, clip=True))[0].numpy()
    assert np.array_equal(found, ((values.astype(float) + 100) * 255 / 400).clip(0, 255).round())
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(ValueError, match=r"nan.tif .*values that are not finite"):
        read_image(tmp_path / "nan.tif")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_twelve_bits_in_files_of_sixteen_keep_their_shades(channels: int, tmp_path: Path) -> None:
    ramp = np.linspace(0, 4095, 256).round().reshape(16, 16, 1)
    values = ramp.repeat(channels, -1)
    if channels in (2, 4):
        values[..., -1] = 65535
    path = deep_png(tmp_path / "a.png", values)
    levels = find_levels([path])
    assert levels == Levels(0, 4095)
    assert np.array_equal(read_image(path, levels=levels)[0], np.round(ramp[..., 0] * 255 / 4095))
    dim = deep_png(tmp_path / "b.png", np.full((2, 2, 3), 900.0))  # of the same data set: as dim as it is
    assert int(read_image(dim, levels=levels).max()) == round(900 * 255 / 4095)
    bright = deep_png(tmp_path / "c.png", np.full((2, 2, 3), 5000.0))
    with pytest.raises(ValueError, match=r"c.png .*up to 5000; the white of its data set is 4095"):
        read_image(bright, levels=levels)


def test_levels_are_only_looked_for_where_they_can_be(tmp_path: Path) -> None:
    Image.fromarray(UPRIGHT).save(tmp_path / "a.png")
    Image.fromarray(UPRIGHT).save(tmp_path / "a.jpg")
    (tmp_path / "b.png").write_bytes(b"damaged")
    assert find_levels([tmp_path / "a.png", tmp_path / "a.jpg", tmp_path / "b.png"]) is None


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_white_and_that_is_said(
    mode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layers = Image.new("RGBA", (4, 1), (0, 0, 0, 0))
    layers.putpixel((0, 0), (10, 10, 10, 255))
    layers.putpixel((1, 0), (0, 0, 0, 128))
    layers.convert(mode).save(tmp_path / "logo.png")
    found = read_image(tmp_path / "logo.png")[0, 0].tolist()
    assert found[0] in range(8, 13)  # a palette is coarse
    assert found[2:] == [255, 255]
    assert mode == "P" or found[1] == 127
    assert "transparent parts; they are shown on white" in caplog.text


def test_an_image_over_pillows_limit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(UPRIGHT).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(ValueError, match=r"can't read the image .*huge.png .*exceeds limit"):
        read_image(tmp_path / "huge.png")


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path) -> None:

    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    for name, why in (("pipe.png", "no regular file"), ("link.png", "no such file")):
        with pytest.raises(ValueError, match=f"{name} .*{why}"):
            read_image(tmp_path / name)
        assert find_levels([tmp_path / name]) is None


def test_no_other_program_is_run_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was run"))
    monkeypatch.setenv("PATH", "/nowhere")
    (tmp_path / "drawing.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(ValueError, match=r"drawing.png \(it is none of AVIF, BMP"):
        read_image(tmp_path / "drawing.png")


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tif"])
def test_the_first_of_several_images_counts_and_that_is_said(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("white", "black")]
    options = {"lossless": True} if kind == "webp" else {}
    frames[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=frames[1:], **options)
    assert int(read_image(tmp_path / f"a.{kind}").min()) == 255
    assert "has files of several images (animations, or pages); the first of each is used" in caplog.text


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "gif", "bmp", "webp", "ppm"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_images_never_raise_anything_else(kind: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    path = tmp_path / f"a.{kind}"
    Image.fromarray(pixels).save(path)
    content, random = path.read_bytes(), np.random.default_rng(1)
    read, untold = 0, []
    for _ in range(60):
        damaged = bytearray(content)
        for place in random.integers(0, len(content), 4):
            damaged[place] = int(random.integers(0, 256))
        path.write_bytes(damaged[: int(random.integers(1, len(content) + 1))])
        try:
            read += read_image(path).dtype == torch.uint8
        except ValueError as error:
            untold += [str(error)] if str(path) not in str(error) else []
    assert not untold
    assert read < 60


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"<html>404</html>", "it is none of AVIF, BMP, GIF, JPEG"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "it is an HEIC photograph, which isn't read; save it as JPEG"),
    ],
)
def test_what_is_no_image_is_told_by_what_it_is(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a.jpg \({why}"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", ["CMYK jpg", "CMYK tif", "P png", "RGB png called jpg", "RGB jp2"])
def test_colours_of_other_kinds_of_files(kind: str, tmp_path: Path) -> None:
    mode, ending, *called = kind.split()
    colours = np.zeros((16, 16, 3), np.uint8)
    colours[:, :8], colours[:, 8:] = [200, 30, 40], [20, 180, 60]
    path = tmp_path / f"a.{ending}"
    Image.fromarray(colours).convert(mode, palette=Image.Palette.ADAPTIVE).save(path, quality=100)
    path = path.rename(tmp_path / "a.jpg") if called else path
    assert np.abs(read_image(path).permute(1, 2, 0).numpy().astype(int) - colours).max() <= 1


def test_colours_of_sixteen_bits_in_a_tiff_are_refused_with_a_remedy(tmp_path: Path) -> None:
    values = np.full((4, 4, 3), 4000, "<u2")
    tags = [(256, 4), (257, 4), (258, 3, 134), (259, 1), (262, 2), (273, 140), (277, 3), (278, 4), (279, values.nbytes)]
    entries = b"".join(struct.pack("<HHII", tag[0], 3, tag[1] if len(tag) == 3 else 1, tag[-1]) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(head.ljust(134, b"\0") + struct.pack("<3H", 16, 16, 16) + values.tobytes())
    with pytest.raises(ValueError, match=r"a.tif \(its colours have 16 bits a channel; save it as PNG, or with 8 bits"):
        read_image(tmp_path / "a.tif")
