"""ONNX: the network, on request with normalisation and probabilities in the graph, and what a program must know of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ednag.core.storage import PART
from ednag.data.augmentation import normalise
from ednag.data.preprocessing import Preprocessing
from ednag.export.formats import Exported, random_inputs, verified

OPSETS = range(18, 24)
"""Versions of ONNX's operators that can be asked for."""

SAID = ("class_names", "preprocessing", "architecture")
"""Entries of ``architecture.json`` that go into the file's metadata."""


class FromPixels(nn.Module):
    """A network from 8-bit pixels to class probabilities.

    Args:
        network: from normalised images to logits.
        how: mean and standard deviation of its inputs.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, how: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(how.mean))
        self.register_buffer("std", torch.tensor(how.std))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return probabilities ``(B, num_classes)`` for pixels, uint8 ``(B, C, H, W)``."""
        probabilities: Tensor = self.network(normalise(pixels, self.mean, self.std)).softmax(-1)
        return probabilities


def write_onnx(
    network: nn.Module,
    architecture: dict[str, Any],
    output: Path,
    include_preprocessing: bool = False,
    opset: int | None = None,
) -> Exported:
    """Write ONNX with PyTorch's exporter and run it with onnxruntime.

    Args:
        network: from normalised images to logits.
        architecture: content of ``architecture.json``.
        output: existing folder for ``network.onnx``.
        include_preprocessing: from uint8 ``pixels`` to ``probabilities``, in place of normalised ``images`` to ``logits``.
        opset: version of ONNX's operators; the exporter's default if omitted.

    Raises:
        ValueError: for an opset that isn't offered, a network whose normalisation isn't known, or a file that differs.
        ModuleNotFoundError: if a package is missing.
    """
    if opset is not None and opset not in OPSETS:
        raise ValueError(f"opset must be from {OPSETS[0]} to {OPSETS[-1]}, got {opset}")
    needed("onnxruntime", "onnxscript", "onnx")
    if include_preprocessing:
        network = FromPixels(network, Preprocessing.of(architecture.get("preprocessing", {})))
    names = ("pixels", "probabilities") if include_preprocessing else ("images", "logits")
    inputs = partial(random_inputs, architecture, integers=include_preprocessing)
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        network.eval(),
        (inputs(2),),
        input_names=[names[0]],
        output_names=[names[1]],
        dynamic_shapes=({0: batch},),
        opset_version=opset,
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise ValueError("PyTorch's ONNX exporter returned nothing")
    program.model.metadata_props.update(metadata(architecture))
    with tempfile.TemporaryDirectory(dir=output, prefix=".onnx.", suffix=PART) as folder:
        part = Path(folder) / "network.onnx"
        program.save(part, external_data=False)
        return verified("onnx", output / "network.onnx", part, network, inputs, runner(part))


def metadata(architecture: dict[str, Any]) -> dict[str, str]:
    """What an ONNX file says of itself, as JSON by name: classes, preprocessing, architecture."""
    return {name: json.dumps(architecture.get(name)) for name in SAID}


def session(path: Path, threads: int | None = None) -> Any:
    """Open an ONNX file with onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = options.inter_op_num_threads = threads
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def runner(path: Path) -> Callable[[Tensor], Tensor]:
    """Return a function from inputs to outputs that runs an ONNX file."""
    opened = session(path)
    name = opened.get_inputs()[0].name

    def run(inputs: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(opened.run(None, {name: inputs.numpy()})[0]))

    return run


def needed(*packages: str) -> None:
    """Make sure that packages are installed.

    Raises:
        ModuleNotFoundError: otherwise, with what to type.
    """
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f"ONNX needs {', '.join(missing)}; install it with: pip install 'ednag[onnx]'")
