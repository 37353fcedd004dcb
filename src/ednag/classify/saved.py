"""Trained networks as files: where they are in a run, and how they are built again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from torch import nn

from ednag.generation.report import Report

ARCHITECTURE = "architecture.json"
"""What the network is: space, genes, options, classes, and how images become inputs."""

WEIGHTS = "weights.safetensors"
"""Its trained weights."""


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
    try:
        results = json.loads(summary.read_text(encoding="utf-8"))["results"]
        finished = {row["rank"]: row["val"].get("top1", -1.0) for row in results if row["status"] == "finished"}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{summary} is damaged ({error})") from None
    if not finished:
        raise ValueError(f"no architecture of {run} has been trained with success")
    return run / f"{max(finished, key=lambda rank: finished[rank]):03d}"


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
    try:
        network.load_state_dict(from_safetensors(weights.read_bytes()))
    except SafetensorError as error:
        raise ValueError(f"{weights} is damaged ({error}); export or retrain the network again") from None
    except RuntimeError as error:
        raise ValueError(f"{weights} doesn't belong to the network of {ARCHITECTURE} ({error})") from None
    return network.eval()
