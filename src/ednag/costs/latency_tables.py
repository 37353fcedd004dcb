"""Latencies from tables: looked up if every network was measured, modelled if only some were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ednag.benchmarks.arrays import Arrays, open_table
from ednag.benchmarks.layouts import recognise
from ednag.core.inputs import InputFile
from ednag.core.names import did_you_mean
from ednag.spaces import MobileNetV3, SearchSpace
from ednag.spaces.mobilenetv3_network import RESOLUTIONS
from ednag.spaces.nasbench201 import OPERATIONS, NASBench201


class _Devices:
    """Base of both kinds of table."""

    space: str
    devices: tuple[str, ...]
    file: InputFile

    def column(self, device: str) -> int:
        """Place of a device among ``devices``.

        Raises:
            ValueError: if the table doesn't know the device.
        """
        if device not in self.devices:
            raise ValueError(
                f"the latency table has no device {device!r}{did_you_mean(device, self.devices)}; it has {', '.join(self.devices)}"
            )
        return self.devices.index(device)

    def setup(self, space: SearchSpace, resolution: int) -> None:
        """Check the space.

        Raises:
            ValueError: if the table is of another space.
        """
        if space.name != self.space:
            raise ValueError(f"the latency table is of {self.space}, not {space.name}; measure on a torch device")


class LatencyTable(_Devices):
    """Latencies of all NAS-Bench-201 networks on 27 devices, as measured by HELP (Lee et al. 2021).

    Args:
        path: an ``.npz`` with ``latency_ms`` (15625, devices) and ``devices``, rows in the benchmark's official order;
            or a name of the catalogue.
        cells: an ``.npz`` with the cells of those rows, ``ops`` (15625, 6) and ``op_names``; if omitted,
            they are looked for in ``path``, then in ``nasbench201.npz`` beside it, then by the catalogue's order.

    Raises:
        FileNotFoundError: if a file is absent.
        ValueError: if a file is not such a table.

    Examples:
        >>> table = LatencyTable("nasbench201_latency")
        >>> len(table.devices)
        27
        >>> table.latency(torch.tensor([3] * 6), "raspi4")
        tensor(98.8875, dtype=torch.float64)
    """

    space = NASBench201.name

    def __init__(self, path: str | Path, cells: str | Path | None = None) -> None:
        self.file, content = open_table(path)
        path = self.file.path
        recognise(path, content, ["nasbench201_latency"])
        if cells is None and "ops" not in content:
            beside = path.parent / "nasbench201.npz"
            cells = beside if beside.exists() else "nasbench201"
        self.cells, rows = (self.file, content) if cells is None else open_table(cells)
        values = torch.from_numpy(content["latency_ms"]).double()
        self.devices: tuple[str, ...] = tuple(str(name) for name in content["devices"])
        codes = _cell_codes(rows, self.cells.path)
        if values.shape != (len(codes), len(self.devices)):
            raise ValueError(
                f"{path}: latency_ms must be {(len(codes), len(self.devices))} (cells, devices), "
                f"got {tuple(values.shape)}"
            )
        self.latency_ms = torch.empty_like(values)
        self.latency_ms[codes] = values

    def latency(self, genes: Tensor, device: str) -> Tensor:
        """Look latencies up.

        Args:
            genes: NAS-Bench-201 cells, int64 ``(*B, 6)``.
            device: one of ``devices``.

        Returns:
            float64 ``(*B,)``, milliseconds.

        Raises:
            ValueError: for an unknown device or genes that are not cells.
        """
        space = NASBench201()
        codes = space.code(space.check(genes))
        return self.latency_ms.to(genes.device)[codes, self.column(device)]


class LatencyModel(_Devices):
    """Latencies of once-for-all MobileNetV3 (width 1.0) on 12 devices, modelled on 5,000 measured sub-networks of HELP.

    Each layer takes a time that depends on its kernel and expansion, a fixed part and one for each pixel, and times add
    up; fitted by ridge regression of relative errors on four fifths of the measurements, for each device. The last
    fifth tells how good that is.

    Args:
        path: an ``.npz`` with ``help_ks`` and ``help_e`` (rows, 20), ``help_d`` (rows, 5), ``help_r`` (rows,) pixels,
            ``help_latency_ms`` (rows, devices) and ``help_devices``; or a name of the catalogue.
        resolution: side of the images; see :meth:`setup`.
        seed: of the split.

    Attributes:
        errors: mean absolute error on the held-out fifth by device, percent of the measured latency.

    Raises:
        FileNotFoundError: if the file is absent.
        ValueError: if it is not such a table.

    Examples:
        >>> model = LatencyModel("ofa_mobilenetv3", resolution=224)
        >>> len(model.devices)
        12
    """

    space = MobileNetV3.name

    def __init__(self, path: str | Path, resolution: int = 224, seed: int = 0) -> None:
        self.file, content = open_table(path)
        genes, sides, latency, self.devices = _measured(content, self.file.path)
        held = len(genes) // 5
        order = torch.randperm(len(genes), generator=torch.Generator().manual_seed(seed))
        inputs = _cost_features(genes, sides)
        fits = [_fit(inputs[order[held:]], column[order[held:]]) for column in latency.unbind(1)]
        self._weights, self._biases = (torch.stack(part) for part in zip(*fits, strict=True))
        found = inputs[order[:held]] @ self._weights.T + self._biases
        errors = (found / latency[order[:held]] - 1).abs().mean(0) * 100
        self.errors = dict(zip(self.devices, errors.tolist(), strict=True))
        self._least = latency.amin(0)
        self.resolution = resolution

    def setup(self, space: SearchSpace, resolution: int) -> None:
        """Set the side of the images.

        Raises:
            ValueError: if the space is not MobileNetV3 of width 1.0, or nothing was measured at that side.
        """
        super().setup(space, resolution)
        if getattr(space, "width", None) != 1.0:
            raise ValueError("latencies of MobileNetV3 were measured at width 1.0; use MobileNetV3(width=1.0)")
        if resolution not in RESOLUTIONS:
            raise ValueError(
                f"latencies of MobileNetV3 were measured at 128, 132, ..., 224 pixels, not {resolution}; "
                "set cost.network to {resolution: 224} or cost.input_shape to such a size"
            )
        self.resolution = resolution

    def latency(self, genes: Tensor, device: str) -> Tensor:
        """Estimate latencies at the model's resolution.

        Args:
            genes: MobileNetV3 architectures, int64 ``(*B, 45)``.
            device: one of ``devices``.

        Returns:
            float64 ``(*B,)``, milliseconds; at least the smallest measured one.

        Raises:
            ValueError: for an unknown device or genes out of range.
        """
        column = self.column(device)
        flat = MobileNetV3().check(genes).reshape(-1, genes.shape[-1]).cpu()
        sides = torch.full((len(flat),), self.resolution, dtype=torch.float64)
        found = _cost_features(flat, sides) @ self._weights[column] + self._biases[column]
        return found.clamp(min=float(self._least[column])).view(genes.shape[:-1]).to(genes.device)


def load_latencies(path: str | Path) -> LatencyTable | LatencyModel:
    """Read a table of latencies of any space known here.

    Args:
        path: an ``.npz`` file, or a name of the catalogue (``nasbench201_latency``, ``ofa_mobilenetv3``).

    Raises:
        FileNotFoundError: if it is absent.
        ValueError: if it is no such table.
    """
    file, content = open_table(path)
    layout = recognise(file.path, content, ["nasbench201_latency", "ofa_mobilenetv3"])
    return LatencyModel(path) if layout == "ofa_mobilenetv3" else LatencyTable(path)


def _fit(inputs: Tensor, latency: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``(F,)`` and bias of a ridge regression whose errors are relative to the latency."""
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=1e-3, solver="cholesky").fit(inputs.numpy(), latency.numpy(), latency.pow(-2).numpy())
    return torch.from_numpy(model.coef_), torch.tensor(model.intercept_, dtype=torch.float64)


def _cost_features(genes: Tensor, sides: Tensor) -> Tensor:
    """Layers and their sizes, alone and times the pixels of the image, float64 ``(n, 202)``."""
    layers = MobileNetV3().features(genes).double()
    scale = (sides / max(RESOLUTIONS))[:, None]
    return torch.cat([layers, layers * scale**2, scale, scale**2], -1)


def _measured(content: Arrays, path: Path) -> tuple[Tensor, Tensor, Tensor, tuple[str, ...]]:
    """Genes ``(n, 45)``, sides ``(n,)``, latencies ``(n, devices)`` and devices of a table."""
    try:
        rows = zip(*(content[f"help_{name}"].tolist() for name in ("ks", "e", "d")), strict=True)
        genes = torch.stack([MobileNetV3().from_settings(*row) for row in rows])
        sides = torch.from_numpy(content["help_r"].astype(np.float64))
        latency = torch.from_numpy(content["help_latency_ms"].astype(np.float64))
        devices = tuple(str(name) for name in content["help_devices"])
        if sides.shape != genes.shape[:1] or latency.shape != (len(genes), len(devices)) or (latency <= 0).any():
            raise ValueError("help_r and help_latency_ms must be positive, one row an architecture")
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a table of MobileNetV3 latencies (ofa_mobilenetv3.npz): {error}") from None
    return genes, sides, latency, devices


def _cell_codes(rows: Arrays, path: str | Path) -> Tensor:
    """Codes of a table's cells; each cell of the space exactly once."""
    names = tuple(str(name) for name in rows.get("op_names", ()))
    if "ops" not in rows or sorted(names) != sorted(OPERATIONS):
        raise ValueError(f"{path} has no NAS-Bench-201 cells; expected ops (15625, 6) and op_names")
    symbols = torch.tensor([OPERATIONS.index(name) for name in names])
    codes = NASBench201().code(symbols[torch.from_numpy(rows["ops"]).long()])
    if not torch.equal(codes.sort().values, torch.arange(NASBench201().size)):
        raise ValueError(f"{path}: ops must list each of the {NASBench201().size} NAS-Bench-201 cells once")
    return codes
