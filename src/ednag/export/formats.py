"""What :func:`ednag.export.run.export` writes of a network besides ONNX, and how every file is checked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ednag.classify.classifier import load
from ednag.classify.saved import WEIGHTS, save_network
from ednag.core.storage import PART

TOLERANCE = 1e-4
"""Largest allowed difference between exported and original outputs, relative to the largest output (at least 1)."""


@dataclass(frozen=True)
class Exported:
    """One exported network.

    Attributes:
        format: what was written.
        path: the file (of the weights, for ``safetensors``).
        error: largest difference to the original outputs on ``images``, relative to the largest (at least 1).
        told: what else was measured: accuracies in percent, milliseconds an image.
        images: what both were given.
    """

    format: str
    path: Path
    error: float
    told: Mapping[str, float] = field(default_factory=dict)
    images: str = "random images"

    def __str__(self) -> str:
        """Say what was written and how well it agrees."""
        more = "".join(f"; {name} {value:.4g}" for name, value in self.told.items())
        return f"{self.format}: {self.path} (differs by at most {self.error:.1e} on {self.images}{more})"


def random_inputs(architecture: Mapping[str, Any], batch: int, integers: bool = False) -> Tensor:
    """Draw random inputs of the network's size: normalised, or uint8 pixels."""
    generator = torch.Generator().manual_seed(batch)
    shape = (batch, architecture["in_channels"], *architecture["image_size"])
    if integers:
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return torch.randn(shape, generator=generator)


def difference(run: Callable[[Tensor], Tensor], network: nn.Module, inputs: Tensor) -> float:
    """Largest difference between two outputs, relative to the largest of the network's (at least 1)."""
    with torch.inference_mode():
        expected = network(inputs)
        return float((run(inputs) - expected).abs().max()) / max(1.0, float(expected.abs().max()))


def verified(
    name: str,
    path: Path,
    part: Path,
    network: nn.Module,
    inputs: Callable[[int], Tensor],
    run: Callable[[Tensor], Tensor],
) -> Exported:
    """Compare outputs at two batch sizes and move the file to its place, or refuse it.

    Raises:
        ValueError: if they differ by more than :data:`TOLERANCE`; the file is not kept then.
    """
    error = max(difference(run, network, inputs(batch)) for batch in (1, 3))
    if not error <= TOLERANCE:
        raise ValueError(f"{name}: exported outputs differ by {error:.1e}, more than {TOLERANCE:.0e}; nothing was kept")
    part.chmod(0o644)
    part.replace(path)
    return Exported(name, path, error)


def write_torch_export(network: nn.Module, architecture: dict[str, Any], output: Path) -> Exported:
    """Write a ``torch.export`` program and run it."""
    batch = torch.export.Dim("batch")
    program = torch.export.export(network, (random_inputs(architecture, 2),), dynamic_shapes=({0: batch},))
    with tempfile.TemporaryDirectory(dir=output, prefix=".pt2.", suffix=PART) as folder:
        part = Path(folder) / "network.pt2"
        torch.export.save(program, part)
        loaded = torch.export.load(part).module()
        inputs = partial(random_inputs, architecture)
        return verified("torch_export", output / "network.pt2", part, network, inputs, loaded)


def write_safetensors(network: nn.Module, architecture: dict[str, Any], output: Path) -> Exported:
    """Write weights and architecture, and read them back."""
    save_network(output, network, architecture)
    return Exported("safetensors", output / WEIGHTS, difference(load(output), network, random_inputs(architecture, 2)))
