"""Classify images: python use_onnx.py photo.jpg more/*.png. Needs onnxruntime, numpy and Pillow, and nothing else."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(Path(__file__).with_name("network.onnx"), providers=["CPUExecutionProvider"])
told = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
how, entry = told["preprocessing"], session.get_inputs()[0]


def read(path):
    """Read an image as pixels, uint8 (channels, height, width)."""
    image = Image.open(path)
    raw = str(image.tile[0][3]) if image.tile else ""
    if image.mode[0] in "IF":  # more than 8 bits a channel
        image = eight_bits(np.array(ImageOps.exif_transpose(image), np.float64)[..., None])
    elif raw in ("RGB;16B", "RGBA;16B"):  # Pillow reads the upper half of each value; the lower one needs a second look
        lower = Image.open(path)
        lower.tile = [(*lower.tile[0][:3], f"{raw[:-1]}L")]
        upper, lower = (np.array(ImageOps.exif_transpose(half), np.float64) for half in (image, lower))
        image = eight_bits(256 * upper + lower)
    elif ";16" in raw:
        raise ValueError(f"{path} has more than 8 bits a channel in a way that Pillow can't read; save it with 8 bits")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, how["background"]), image.convert("RGBA"))
    image = image.convert(how["channel_order"])
    _, height, width = how["input_size"]
    down, across = round(height / how["crop_pct"]), round(width / how["crop_pct"])
    if how["crop_mode"] != "squash":
        w, h = image.size
        across, down = (down * w // h, down) if down * w >= across * h else (across, across * h // w)
    image = image.resize((across, down), Image.Resampling[how["interpolation"].upper()])
    left, top = round((across - width) / 2), round((down - height) / 2)
    pixels = np.array(image.crop((left, top, left + width, top + height)))
    return pixels.reshape(height, width, -1).transpose(2, 0, 1)


def eight_bits(values):
    """Scale (height, width, channels) between black and white."""
    colours = np.nan_to_num(values[..., :3])
    if how["levels"]:
        black, white = how["levels"]["black"], how["levels"]["white"]
    else:
        black, white = 0, next(w for w in (1, 255, 1023, 4095, 16383, 65535) if w >= colours.max())
    scaled = np.concatenate([(colours - black) * (255 / (white - black)), values[..., 3:] / 257], -1)
    return Image.fromarray(scaled.clip(0, 255).round().astype(np.uint8).squeeze())


def predict(paths):
    """Return the probability of each class for each image, (images, classes)."""
    pixels = np.stack([read(path) for path in paths])
    if entry.type == "tensor(uint8)":  # preprocessing is in the graph
        return session.run(None, {entry.name: pixels})[0]
    mean, std = (np.array(how[name], np.float32)[:, None, None] for name in ("mean", "std"))
    logits = session.run(None, {entry.name: (pixels.astype(np.float32) / 255 - mean) / std})[0]
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


if __name__ == "__main__":
    for file in sys.argv[1:]:
        (found,) = predict([file])
        best = found.argsort()[::-1][:3]
        sys.stdout.write("\t".join([file, *(f"{told['class_names'][i]} {found[i]:.1%}" for i in best)]) + "\n")
