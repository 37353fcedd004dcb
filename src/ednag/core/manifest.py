"""What a run was made with."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ednag.core.inputs import input_files

PACKAGES = ("ednag", "torch", "torchvision", "lightning", "torchmetrics", "numpy")


def manifest(
    seeds: Sequence[int],
    device: torch.device,
    counts: Mapping[str, float],
    seconds: Mapping[str, float],
    parts: Sequence[object] = (),
) -> dict[str, Any]:
    """Describe a run: seeds, versions, git revision, device, counts, seconds and the files that its parts have read."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "seeds": list(seeds),
        "versions": versions(),
        "git_revision": git_revision(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "counts": dict(counts),
        "seconds": dict(seconds),
        "inputs": input_files(*parts),
    }


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that results depend on, by name; ``None`` for one that isn't installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def git_revision() -> str | None:
    """Revision of the checkout this package runs from, with ``-dirty`` where files differ; ``None`` outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None


def device_name(device: torch.device) -> str:
    """Name of the hardware behind a torch device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type} ({platform.machine()}, {threads} {'thread' if threads == 1 else 'threads'})"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
