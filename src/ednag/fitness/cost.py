"""What a network costs: parameters, multiply-accumulates, and latency, measured here or read from a table."""

from __future__ import annotations

import copy
import statistics
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from ednag.spaces.nasbench201 import OPERATIONS, NASBench201


@dataclass(frozen=True)
class Costs:
    """Costs of one network.

    Attributes:
        params: trainable and frozen parameters, shared ones once.
        macs: multiply-accumulates for one image; what NAS-Bench-201 and most papers of the field call FLOPs.
        latency_ms: milliseconds for one batch, ``None`` where neither measured nor looked up.
    """

    params: int
    macs: int
    latency_ms: float | None = None


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Put a network into eval mode, and every module back into its own mode afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield network
    finally:
        for module, mode in modes:
            module.training = mode


def count_costs(network: nn.Module, input_shape: tuple[int, int, int]) -> Costs:
    """Count the parameters and multiply-accumulates of a network by one forward pass of a zero image.

    Counted as by NAS-Bench-201 (Dong & Yang 2020), so that its table is met exactly: convolutions and linear layers,
    an addition for each output where they have a bias; no normalisation, pooling or activation. A layer that is run
    twice counts twice; one that is built but never run counts as parameters only. The network may live on the
    ``meta`` device, where nothing is computed; its training flags and statistics stay as they are.

    Args:
        network: maps ``(1, *input_shape)`` to anything.
        input_shape: channels, height and width.

    Returns:
        costs without a latency.
    """
    macs = 0

    def count(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        macs += layer_macs(module, output)

    layers = [module for module in network.modules() if isinstance(module, (_ConvNd, nn.Linear))]
    handles: list[RemovableHandle] = [layer.register_forward_hook(count) for layer in layers]
    like = next(network.parameters(), torch.empty(0))
    try:
        with evaluating(network), torch.no_grad():
            network(torch.zeros(1, *input_shape, device=like.device, dtype=like.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return Costs(params=sum(p.numel() for p in network.parameters()), macs=macs)


def layer_macs(layer: nn.Module, output: Tensor) -> int:
    """Multiply-accumulates of a convolution or linear layer for the output it made.

    Args:
        layer: a convolution (any dimension, stride, dilation, groups; not a transposed one) or a linear layer.
        output: ``(batch, out_channels, ...)``, or ``(..., out_features)`` of a linear layer.

    Raises:
        ValueError: for a transposed convolution, which this count doesn't know.
    """
    if isinstance(layer, nn.Linear):
        return output.numel() * (layer.in_features + (layer.bias is not None))
    if not isinstance(layer, _ConvNd) or layer.transposed:
        raise ValueError(f"multiply-accumulates of {type(layer).__name__} can't be counted; convolutions and linear")
    return output.numel() * (layer.weight[0].numel() + (layer.bias is not None))


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
        batch_size: images a batch.
        warmup: batches before the first measured one.
        repeats: measured batches.

    Returns:
        milliseconds a batch.

    Raises:
        ValueError: if the network has no values (``meta`` device), or a count is out of range.
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


class LatencyTable:
    """Latencies of all NAS-Bench-201 networks on 27 devices, as measured by HELP (Lee et al. 2021).

    Args:
        path: an ``.npz`` with ``latency_ms`` (15625, devices) and ``devices``, rows in the benchmark's official order.
        cells: an ``.npz`` with the cells of those rows, ``ops`` (15625, 6) and ``op_names``; where it is ``None``,
            they are looked for in ``path`` and then in ``nasbench201.npz`` beside it.

    Raises:
        FileNotFoundError: if a file is absent.
        ValueError: if a file is not such a table.
    """

    def __init__(self, path: str | Path, cells: str | Path | None = None) -> None:
        content = _load(Path(path))
        if not {"latency_ms", "devices"} <= content.keys():
            raise ValueError(f"{path} has no latency_ms and devices; expected the layout of nasbench201_latency.npz")
        if cells is None and "ops" not in content:
            cells = Path(path).parent / "nasbench201.npz"
        rows = content if cells is None else _load(Path(cells))
        values = torch.from_numpy(content["latency_ms"]).double()
        self.devices: tuple[str, ...] = tuple(str(name) for name in content["devices"])
        codes = _cell_codes(rows, cells or path)
        if values.shape != (len(codes), len(self.devices)):
            raise ValueError(
                f"{path}: latency_ms must be {(len(codes), len(self.devices))} (cells, devices), "
                f"got {tuple(values.shape)}"
            )
        self.latency_ms = torch.empty_like(values)
        self.latency_ms[codes] = values

    def column(self, device: str) -> int:
        """Place of a device among :attr:`devices`.

        Raises:
            ValueError: if the table doesn't know the device.
        """
        if device not in self.devices:
            raise ValueError(f"the latency table has no device {device!r}; it has {', '.join(self.devices)}")
        return self.devices.index(device)

    def latency(self, genes: Tensor, device: str) -> Tensor:
        """Look latencies up.

        Args:
            genes: NAS-Bench-201 cells, int64 ``(*B, 6)``.
            device: one of :attr:`devices`.

        Returns:
            float64 ``(*B,)``, milliseconds.

        Raises:
            ValueError: for an unknown device or genes that are not cells.
        """
        space = NASBench201()
        codes = space.code(space.check(genes))
        return self.latency_ms.to(genes.device)[codes, self.column(device)]


def _load(path: Path) -> dict[str, np.ndarray]:
    """Read an ``.npz`` without running anything it contains."""
    if not path.exists():
        raise FileNotFoundError(f"no table at {path}; `ednag data` lists the known tables and where they come from")
    try:
        with np.load(path, allow_pickle=False) as table:
            return dict(table)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or not an .npz table ({error})") from None


def _cell_codes(rows: dict[str, np.ndarray], path: str | Path) -> Tensor:
    """Codes of a table's cells; each cell of the space exactly once."""
    names = tuple(str(name) for name in rows.get("op_names", ()))
    if "ops" not in rows or sorted(names) != sorted(OPERATIONS):
        raise ValueError(f"{path} has no NAS-Bench-201 cells; expected ops (15625, 6) and op_names")
    symbols = torch.tensor([OPERATIONS.index(name) for name in names])
    codes = NASBench201().code(symbols[torch.from_numpy(rows["ops"]).long()])
    if not torch.equal(codes.sort().values, torch.arange(NASBench201().size)):
        raise ValueError(f"{path}: ops must list each of the {NASBench201().size} NAS-Bench-201 cells once")
    return codes
