"""Static quantisation to 8-bit integers, with what it costs in accuracy and gains in time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from ednag.core.storage import PART, write_json
from ednag.data.checks import batches
from ednag.export.formats import Exported
from ednag.export.latency import latencies
from ednag.export.onnx_file import metadata, needed, session

CALIBRATION = 200
"""Validation images that ranges of activations are found with."""

Batch = tuple[np.ndarray, np.ndarray]
"""Inputs of the network, and labels."""


def write_int8(
    source: Path, data: pl.LightningDataModule, architecture: dict[str, Any], output: Path, integers: bool
) -> Exported:
    """Quantise an ONNX file, and measure both on the test images.

    Weights and activations become signed 8-bit integers, weights with a scale for each channel. Ranges of activations
    are those of validation images, so that no test image has been looked at.

    Args:
        source: ``network.onnx``.
        data: the images that the network was trained on.
        architecture: content of ``architecture.json``.
        output: existing folder for ``network.int8.onnx``, and ``network.int8.json`` with what was measured.
        integers: whether the network takes 8-bit pixels, in place of normalised images.

    Raises:
        ModuleNotFoundError: if a package is missing.
    """
    needed("onnxruntime", "onnx")
    import onnx
    from onnxruntime.quantization import QuantType, quant_pre_process, quantize_static

    data.prepare_data()
    data.setup("fit")
    path = output / "network.int8.onnx"
    with tempfile.TemporaryDirectory(dir=output, prefix=".int8.", suffix=PART) as folder:
        plain, part = Path(folder) / "plain.onnx", Path(folder) / "network.int8.onnx"
        quant_pre_process(str(source), str(plain), skip_symbolic_shape=True)
        reader = Reader(_inputs(data, "val", integers), session(source).get_inputs()[0].name)
        kinds = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8}
        quantize_static(str(plain), str(part), reader, per_channel=True, **kinds)
        model = onnx.load(str(part))
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, metadata(architecture))
        onnx.save(model, str(part))
        part.chmod(0o644)
        part.replace(path)
    told = compare(source, path, data, integers)
    write_json(output / "network.int8.json", told)
    return Exported("onnx_int8", path, told.pop("largest relative difference"), told, "the test images")


class Reader:
    """Calibration images, one batch at a time, as onnxruntime's quantisation asks for them.

    Args:
        found: batches of inputs and labels.
        name: of the network's input.
    """

    def __init__(self, found: Iterator[Batch], name: str) -> None:
        self.found, self.name, self.left = found, name, CALIBRATION

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch; ``None`` after the last."""
        if self.left <= 0:
            return None
        images = next(self.found, (None, None))[0]
        if images is None:
            return None
        images = images[: self.left]
        self.left -= len(images)
        return {self.name: images}


def compare(source: Path, quantised: Path, data: pl.LightningDataModule, integers: bool) -> dict[str, float]:
    """Measure two ONNX files on all test images: accuracies in percent, and milliseconds for one image on one thread."""
    files = {"float32": session(source), "int8": session(quantised)}
    name = files["int8"].get_inputs()[0].name
    right, count, error, first = dict.fromkeys(files, 0), 0, 0.0, None
    for images, labels in _inputs(data, "test", integers):
        first = images[:1] if first is None else first
        outputs = {kind: opened.run(None, {name: images})[0] for kind, opened in files.items()}
        for kind, found in outputs.items():
            right[kind] += int((found.argmax(1) == labels).sum())
        scale = max(1.0, float(np.abs(outputs["float32"]).max()))
        error = max(error, float(np.abs(outputs["int8"] - outputs["float32"]).max()) / scale)
        count += len(labels)
    if first is None:
        raise ValueError("there is no test image to compare on")
    told = {f"{kind} test top-1 %": 100 * number / count for kind, number in right.items()}
    times = latencies({"float32": source, "int8": quantised}, name, first)
    return {**told, **{f"{kind} ms": ms for kind, ms in times.items()}, "largest relative difference": error}


def _inputs(data: pl.LightningDataModule, split: str, integers: bool) -> Iterator[Batch]:
    """Yield the network's inputs and labels: as loaded, or prepared as for a network."""
    found: Iterable[tuple[Tensor, Tensor]] = batches(data, split)
    for images, labels in found:
        with torch.inference_mode():
            inputs = images if integers else data.on_after_batch_transfer((images, labels), 0)[0]
        yield inputs.contiguous().numpy(), labels.numpy()
