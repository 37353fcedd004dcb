"""A folder of photographs as people have them: every kind of file that is read."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def deep_png(path: Path, values: np.ndarray) -> Path:
    """Write 16 bits a channel, ``(H, W, C)``; Pillow can only write grey ones."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def scene(random: np.random.Generator, label: int) -> np.ndarray:
    """A smooth picture whose colours tell the label, uint8 ``(H, W, 3)``, of any size."""
    height, width = random.integers(20, 90, 2)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = np.stack([np.sin((3 + label) * x + random.uniform(0, 6)), np.cos(2 * y + label), x * y], -1)
    tint = np.roll([60, 10, -50], label)
    return (128 + 50 * waves + tint + random.normal(0, 12, (height, width, 3))).clip(0, 255).astype(np.uint8)


def write_kinds(folder: Path, random: np.random.Generator, label: int) -> None:
    """Write one picture of each kind into a class's folder."""
    folder.mkdir(parents=True)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        for ending in ("jpg", "png", "webp"):
            Image.fromarray(scene(random, label)).save(folder / f"turned{orientation}.{ending}", exif=exif)
    for i in range(2):
        colours = scene(random, label)
        alpha = (255 * (np.indices(colours.shape[:2]).sum(0) % 7 > 1)).astype(np.uint8)
        layers = Image.fromarray(np.dstack([colours, alpha]))
        for mode in ("L", "LA", "RGBA", "P", "1", "CMYK"):
            ending = "tif" if mode == "CMYK" else "png"
            layers.convert(mode).save(folder / f"mode-{mode}{i}.{ending}")
        Image.fromarray(colours).convert("P", palette=Image.Palette.ADAPTIVE).save(folder / f"palette{i}.gif")
        deep = colours.astype(np.uint32) * 4095 // 255
        deep_png(folder / f"deep-grey{i}.png", deep[..., :1])
        deep_png(folder / f"deep-colour{i}.png", deep)
        deep_png(folder / f"deep-alpha{i}.png", np.dstack([deep, alpha.astype(np.uint32) * 257]))
        Image.fromarray(deep[..., 0].astype(np.uint16)).save(folder / f"deep-scan{i}.tif")


def write_photographs(root: Path, seed: int = 0) -> Path:
    """Write three classes of pictures of all kinds, 46 each."""
    random = np.random.default_rng(seed)
    for label, name in enumerate(("dusk", "meadow", "sea")):
        write_kinds(root / name, random, label)
    return root
