"""Measure the latency of a network."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn


def measure_latency(
    network: nn.Module,
    input_shape: tuple[int, int, int],
    device: torch.device | str = "cpu",
    batch_size: int = 1,
    warmup: int = 5,
    repeats: int = 20,
) -> float:
    """Measure how long a network takes for one batch: the median after a warm-up, in eval and inference mode.

    A copy is measured, so that the network stays where and as it is.

    Args:
        network: maps ``(batch_size, *input_shape)`` to anything; not on the ``meta`` device.
        input_shape: channels, height and width.
        device: where to measure; it is synchronised around each repeat.
        batch_size: images per batch.
        warmup: batches before the first measured one.
        repeats: measured batches.

    Returns:
        milliseconds per batch.

    Raises:
        ValueError: if the network has no values (``meta`` device), or a count is out of range.

    Examples:
        >>> measure_latency(nn.Conv2d(3, 8, 3), (3, 32, 32), repeats=3) > 0
        True
    """
    if min(batch_size, repeats) < 1 or warmup < 0:
        raise ValueError(
            f"batch_size and repeats must be >= 1 and warmup >= 0, got {batch_size}, {repeats} and {warmup}"
        )
    if any(p.is_meta for p in network.parameters()):
        raise ValueError("latency can't be measured on the meta device; build the network on a real one")
    wait = _synchronizer(torch.device(device))
    with torch.inference_mode():
        subject = copy.deepcopy(network).to(device).eval()
        images = torch.zeros(batch_size, *input_shape, device=device)
        times = []
        for turn in range(warmup + repeats):
            wait()
            start = time.perf_counter()
            subject(images)
            wait()
            if turn >= warmup:
                times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def _synchronizer(device: torch.device) -> Callable[[], None]:
    """Return what waits for the device's queue; nothing on the CPU, which has none."""
    if device.type == "cpu":
        return lambda: None
    module = torch.get_device_module(device)
    return lambda: module.synchronize() if device.index is None or device.type == "mps" else module.synchronize(device)
