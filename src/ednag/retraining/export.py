"""Load trained networks (:func:`load`), and export them for other programs (:func:`export`)."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from torch import Tensor, nn

from ednag.core.names import unknown as unknown_name
from ednag.core.storage import atomic_write, write_json
from ednag.generation.report import Report

ARCHITECTURE = "architecture.json"
"""What the network is: space, genes, options, images."""

WEIGHTS = "weights.safetensors"
"""Its trained weights."""

Format = Literal["onnx", "torch_export", "safetensors"]
"""What :func:`export` can write."""

TOLERANCE = 1e-4
"""Largest allowed difference between exported and original logits, relative to the largest logit (at least 1)."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """One exported network.

    Attributes:
        format: one of :data:`Format`.
        path: the file (of the weights, for ``safetensors``).
        error: largest difference to the original logits on random images, relative to the largest logit (at least 1).
    """

    format: str
    path: Path
    error: float

    def __str__(self) -> str:
        """Say what was written and how well it agrees."""
        return f"{self.format}: {self.path} (differs by at most {self.error:.1e} on random images)"


def load(path: str | Path) -> nn.Module:
    """Return a trained network, in eval mode, on the CPU.

    Args:
        path: a folder with ``architecture.json`` and ``weights.safetensors``: of one retrained architecture, or of an
            export. The run directory of a retraining stands for its finished architecture with the best validation
            accuracy.

    Returns:
        a module from normalised images ``(B, C, H, W)`` to logits ``(B, num_classes)``.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged, or the weights are of another network.
    """
    folder = find(Path(path))
    network = build(read_architecture(folder))
    weights = folder / WEIGHTS
    if not weights.exists():
        raise FileNotFoundError(
            f"no {WEIGHTS} in {folder}: its training failed (metrics.json says why) or was stopped (`ednag retrain --resume` "
            "continues it)"
        )
    try:
        network.load_state_dict(from_safetensors(weights.read_bytes()))
    except SafetensorError as error:
        raise ValueError(f"{weights} is damaged ({error}); export or retrain the network again") from None
    except RuntimeError as error:
        raise ValueError(f"{weights} doesn't belong to the network of {ARCHITECTURE} ({error})") from None
    return network.eval()


def find(path: Path) -> Path:
    """Find the folder of the network that a path refers to; see :func:`load`.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the summary of a retraining is damaged, or all its architectures failed.
    """
    summary = path / "summary.json"
    if (path / ARCHITECTURE).exists():
        return path
    if not summary.exists():
        raise FileNotFoundError(f"no {ARCHITECTURE} in {path}; give the folder of a retrained architecture (RUN/001)")
    try:
        results = json.loads(summary.read_text(encoding="utf-8"))["results"]
        finished = {row["rank"]: row["val"].get("top1", -1.0) for row in results if row["status"] == "finished"}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{summary} is damaged ({error})") from None
    if not finished:
        raise ValueError(f"no architecture of {path} has been trained with success")
    return path / f"{max(finished, key=lambda rank: finished[rank]):03d}"


def read_architecture(folder: Path) -> dict[str, Any]:
    """Read ``architecture.json``.

    Raises:
        ValueError: if it is damaged.
    """
    path = folder / ARCHITECTURE
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = [name for name in ("space", "genes", "network", "num_classes", "in_channels") if name not in content]
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None
    if missing:
        raise ValueError(f"{path} is damaged: it lacks {', '.join(missing)}")
    return content


def build(architecture: dict[str, Any]) -> nn.Module:
    """Build the untrained network that ``architecture.json`` describes.

    Raises:
        ValueError: if its space is none, or can't build it.
    """
    space = Report(architecture["space"], fitness="", candidates=[]).load_space()
    options = {"in_channels": architecture["in_channels"], **architecture["network"]}
    try:
        return space.build(torch.tensor(architecture["genes"]), architecture["num_classes"], **options)
    except TypeError as error:
        raise ValueError(f"{space.name} can't build a network with {options} ({error})") from None


def export(run: Path, formats: Sequence[str] | None = None, output: Path | None = None) -> list[Exported]:
    """Write a trained network for other programs, and check each file against the original on random images.

    ``onnx`` writes ``network.onnx`` (any batch size; needs the packages ``onnx``, ``onnxscript`` and
    ``onnxruntime``), ``torch_export`` writes ``network.pt2`` (any batch size), ``safetensors`` copies weights and
    architecture. Inputs are normalised images; mean and standard deviation are in ``architecture.json``, and in the
    metadata of the ONNX file.

    Args:
        run: see :func:`load`.
        formats: what to write; all if omitted.
        output: folder for the files; ``run``'s ``export`` if omitted.

    Raises:
        ValueError: for an unknown format, or if a file's logits differ by more than :data:`TOLERANCE`; the file is
            not kept then.
        FileNotFoundError: see :func:`load`.
        ModuleNotFoundError: if a package that a format needs is missing.
    """
    formats = list(get_args(Format)) if formats is None else formats
    unknown = [name for name in formats if name not in _WRITERS]
    if unknown or not formats:
        raise ValueError(unknown_name("export format", ", ".join(unknown) or "(none)", _WRITERS))
    folder = find(Path(run))
    network, architecture = load(folder), read_architecture(folder)
    output = folder / "export" if output is None else Path(output)
    output.mkdir(parents=True, exist_ok=True)
    done = [_WRITERS[name](network, architecture, output) for name in dict.fromkeys(formats)]
    for item in done:
        log.info("%s: %s (largest relative difference %.1e)", item.format, item.path, item.error)
    return done


def _images(architecture: dict[str, Any], batch: int) -> Tensor:
    """Random normalised images of the network's size."""
    height, width = architecture["image_size"]
    shape = (batch, architecture["in_channels"], height, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(batch))


def _verified(
    name: str, path: Path, part: Path, network: nn.Module, architecture: dict[str, Any], run: Callable[[Tensor], Tensor]
) -> Exported:
    """Compare logits at two batch sizes and move the file to its place, or refuse it."""
    error = 0.0
    with torch.inference_mode():
        for batch in (1, 3):
            images = _images(architecture, batch)
            expected = network(images)
            scale = max(1.0, float(expected.abs().max()))
            error = max(error, float((run(images) - expected).abs().max()) / scale)
    if not error <= TOLERANCE:
        raise ValueError(f"{name}: exported logits differ by {error:.1e}, more than {TOLERANCE:.0e}; nothing was kept")
    part.chmod(0o644)
    part.replace(path)
    return Exported(name, path, error)


def _onnx(network: nn.Module, architecture: dict[str, Any], output: Path) -> Exported:
    """Write ONNX with PyTorch's exporter and run it with onnxruntime."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (the exporter's own requirement)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"ONNX needs {error.name}; install it with: pip install 'ednag[onnx]'") from None
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        network,
        (_images(architecture, 2),),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: batch},),
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise ValueError("PyTorch's ONNX exporter returned nothing")
    told = ("class_names", "normalisation", "architecture")
    program.model.metadata_props.update({name: json.dumps(architecture.get(name)) for name in told})
    with tempfile.TemporaryDirectory(dir=output, prefix=".onnx.") as folder:
        part = Path(folder) / "network.onnx"
        program.save(part, external_data=False)
        session = onnxruntime.InferenceSession(part.read_bytes(), providers=["CPUExecutionProvider"])
        return _verified(
            "onnx",
            output / "network.onnx",
            part,
            network,
            architecture,
            lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0]),
        )


def _torch_export(network: nn.Module, architecture: dict[str, Any], output: Path) -> Exported:
    """Write a ``torch.export`` program and run it."""
    batch = torch.export.Dim("batch")
    program = torch.export.export(network, (_images(architecture, 2),), dynamic_shapes=({0: batch},))
    with tempfile.TemporaryDirectory(dir=output, prefix=".pt2.") as folder:
        part = Path(folder) / "network.pt2"
        torch.export.save(program, part)
        loaded = torch.export.load(part).module()
        return _verified("torch_export", output / "network.pt2", part, network, architecture, loaded)


def _safetensors(network: nn.Module, architecture: dict[str, Any], output: Path) -> Exported:
    """Write weights and architecture, and read them back."""
    from safetensors.torch import save

    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_json(output / ARCHITECTURE, architecture)
    atomic_write(output / WEIGHTS, lambda stream: stream.write(save(weights)))
    images = _images(architecture, 2)
    with torch.inference_mode():
        error = float((load(output)(images) - network(images)).abs().max())
    return Exported("safetensors", output / WEIGHTS, error)


_WRITERS: dict[str, Callable[[nn.Module, dict[str, Any], Path], Exported]] = {
    "onnx": _onnx,
    "torch_export": _torch_export,
    "safetensors": _safetensors,
}
