"""Trained networks as files: where they are in a run, and how they are built again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import nn

from ednag.core.reading import LARGEST_ARRAYS, matches, read_bytes, read_json, reading
from ednag.core.storage import atomic_write, write_json
from ednag.generation.report import Report

ARCHITECTURE = "architecture.json"
"""What the network is: space, genes, options, classes, and how images become inputs."""

WEIGHTS = "weights.safetensors"
"""Its trained weights."""

DIGEST = "weights_sha256"
"""Where :data:`ARCHITECTURE` has the digest of the weights, once there are any."""


def find(path: Path) -> Path:
    """Return the folder of the network that a path stands for.

    Args:
        path: a folder with ``architecture.json``, or the run directory of a retraining (or of a generation whose
            networks were retrained in ``retrained``), which stands for its finished architecture with the best
            validation accuracy.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the summary of a retraining is damaged, or all its architectures failed.
    """
    if (path / ARCHITECTURE).exists():
        return path
    run = next((folder for folder in (path, path / "retrained") if (folder / "summary.json").exists()), None)
    if run is None:
        raise FileNotFoundError(f"no {ARCHITECTURE} in {path}; give the folder of a retrained architecture (RUN/001)")
    summary = run / "summary.json"
    finished = read_json(
        summary, "a summary of `ednag retrain`", f"give the folder of a network ({run / '001'})", _scores
    )
    if not finished:
        raise ValueError(f"no architecture of {run} has been trained with success")
    return run / f"{max(finished, key=lambda rank: finished[rank]):03d}"


def read_architecture(folder: Path) -> dict[str, Any]:
    """Read ``architecture.json``.

    Raises:
        ValueError: if it is damaged.
    """
    path = folder / ARCHITECTURE
    return read_json(path, "the description of a network", "copy it again, or retrain the network", _architecture)


_FIELDS: dict[str, Any] = {
    "space": dict[str, Any],
    "genes": list[int],
    "network": dict[str, Any],
    "num_classes": int,
    "in_channels": int,
    "image_size": list[int],
}
"""What ``architecture.json`` must hold."""


def _architecture(content: Any) -> dict[str, Any]:
    for name, kind in _FIELDS.items():
        if not matches(content[name], kind):
            raise ValueError(f"{name} can't be {content[name]!r}")
    found: dict[str, Any] = content
    return found


def _scores(summary: Any) -> dict[int, float]:
    """Validation accuracy of the finished architectures, by rank."""
    finished = [row for row in summary["results"] if row["status"] == "finished"]
    if not all(matches(row["rank"], int) and matches(row["val"], dict[str, float]) for row in finished):
        raise ValueError("a rank or an accuracy is no number")
    return {row["rank"]: row["val"].get("top1", -1.0) for row in finished}


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


def save_network(folder: Path, network: nn.Module, architecture: dict[str, Any]) -> None:
    """Write the weights of a network, and its description with their digest.

    Args:
        folder: where :func:`load_network` reads them.
        network: trained, on any device.
        architecture: content of ``architecture.json``; a digest in it is replaced.
    """
    content = to_safetensors({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()})
    atomic_write(folder / WEIGHTS, lambda stream: stream.write(content))
    write_json(folder / ARCHITECTURE, {**architecture, DIGEST: hashlib.sha256(content).hexdigest()})


def load_network(folder: Path, architecture: dict[str, Any]) -> nn.Module:
    """Build a network and give it its trained weights, in eval mode, on the CPU.

    Raises:
        FileNotFoundError: if there are no weights.
        ValueError: if they are damaged, or of another network.
    """
    network = build(architecture)
    weights = folder / WEIGHTS
    if not weights.exists():
        raise FileNotFoundError(
            f"no {WEIGHTS} in {folder}: its training failed (metrics.json says why) or was stopped (`ednag retrain --resume` "
            "continues it)"
        )
    remedy = "copy it again, or export or retrain the network again"
    with reading(weights, f"the weights of the network of {ARCHITECTURE}", remedy):
        content = read_bytes(weights, LARGEST_ARRAYS)
        digest = hashlib.sha256(content).hexdigest()
        if digest != architecture.get(DIGEST, digest):
            raise ValueError(f"its sha256 is not {str(architecture[DIGEST])[:12]}..")
        network.load_state_dict(from_safetensors(content))
    return network.eval()
