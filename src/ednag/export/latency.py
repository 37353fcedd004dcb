"""How long ONNX files take on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ednag.export.onnx_file import session


def latencies(files: Mapping[str, Path], name: str, images: np.ndarray, rounds: int = 30) -> dict[str, float]:
    """Median milliseconds of a batch on one thread, measured in turn so that a busy moment hits all alike."""
    opened = {kind: session(path, threads=1) for kind, path in files.items()}
    taken: dict[str, list[float]] = {kind: [] for kind in files}
    for turn in range(rounds + 3):
        for kind, one in opened.items():
            begun = time.perf_counter()
            one.run(None, {name: images})
            if turn >= 3:  # the first ones warm up
                taken[kind].append(time.perf_counter() - begun)
    return {kind: 1000 * statistics.median(some) for kind, some in taken.items()}
