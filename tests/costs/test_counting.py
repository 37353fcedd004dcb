"""Counted and measured costs against hand counts and the benchmark's own tables."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ednag.costs.counting import Costs, count_costs, layer_macs
from ednag.costs.latency_tables import LatencyTable
from ednag.costs.timing import measure_latency
from ednag.spaces import NASBench201
from ednag.spaces.nasbench201 import OPERATIONS
from tests.conftest import TABLES

SPACE = NASBench201()


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 3, padding=1, bias=False), (3, 10, 6), 8 * 10 * 6 * 27),
        (nn.Conv2d(3, 8, 3, padding=1), (3, 10, 6), 8 * 10 * 6 * 28),
        (nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8, bias=False), (8, 9, 9), 8 * 5 * 5 * 25),
        (nn.Conv2d(8, 12, 3, dilation=2, groups=4), (8, 9, 9), 12 * 5 * 5 * (2 * 9 + 1)),
        (nn.Sequential(nn.Flatten(), nn.Linear(48, 7)), (3, 4, 4), 48 * 7 + 7),
        (nn.Linear(4, 7, bias=False), (3, 4, 4), 3 * 4 * 4 * 7),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2)), (3, 4, 4), 0),
    ],
)
def test_counts_by_hand(layer: nn.Module, shape: tuple[int, int, int], macs: int) -> None:
    assert count_costs(layer, shape) == Costs(sum(p.numel() for p in layer.parameters()), macs)


def test_a_layer_run_twice_counts_twice_and_is_stored_once() -> None:
    conv = nn.Conv2d(3, 3, 1, bias=False)
    assert count_costs(nn.Sequential(conv, conv), (3, 2, 2)) == Costs(9, 72)


def test_transposed_convolutions_are_refused_rather_than_miscounted() -> None:
    with pytest.raises(ValueError, match="ConvTranspose2d can't be counted"):
        layer_macs(nn.ConvTranspose2d(3, 3, 2), torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize(
    ("data_set", "size", "classes"), [("cifar10", 32, 10), ("cifar100", 32, 100), ("imagenet16-120", 16, 120)]
)
def test_the_table_of_the_benchmark(nasbench201: dict[str, np.ndarray], data_set: str, size: int, classes: int) -> None:
    names = [str(name) for name in nasbench201["op_names"]]
    for row in np.random.default_rng(size + classes).integers(0, 15_625, 8):
        genes = torch.tensor([OPERATIONS.index(names[op]) for op in nasbench201["ops"][row]])
        costs = count_costs(SPACE.build(genes, classes), (3, size, size))
        expected = nasbench201[f"{data_set}/params"][row], nasbench201[f"{data_set}/flops"][row]
        assert (costs.params, costs.macs) == expected, SPACE.describe(genes)


def test_the_meta_device_counts_the_same() -> None:
    genes = torch.tensor([3, 1, 4, 2, 0, 3])
    with torch.device("meta"):
        empty = SPACE.build(genes, 10, cells=1)
    assert count_costs(empty, (3, 32, 32)) == count_costs(SPACE.build(genes, 10, cells=1), (3, 32, 32))


def test_counting_leaves_the_network_as_it_was() -> None:
    network = SPACE.build(torch.tensor([3, 1, 4, 2, 0, 3]), 10, cells=1)
    network[0].eval()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count_costs(network, (3, 16, 16))
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    with torch.inference_mode():
        assert count_costs(network, (3, 16, 16)).macs > 0


class Sleeper(nn.Module):
    """Takes long twice, then 20 ms, with one slow turn in between; remembers how it was run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, bool, bool]] = []

    def __deepcopy__(self, memo: dict[int, object]) -> "Sleeper":
        out = Sleeper()
        out.seen = self.seen
        return out

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((len(x), self.training, torch.is_inference_mode_enabled()))
        time.sleep({1: 0.2, 2: 0.2, 5: 0.2}.get(len(self.seen), 0.02))
        return x


def test_latency_is_the_median_after_the_warm_up() -> None:
    network = Sleeper()
    found = measure_latency(network, (3, 4, 4), batch_size=6, warmup=2, repeats=7)
    assert 20 <= found < 100
    assert network.seen == [(6, False, True)] * 9
    assert network.training


def test_latency_of_a_real_network_leaves_it_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert measure_latency(network, (3, 8, 8), warmup=0, repeats=3) > 0
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.gpu
def test_latency_on_a_gpu() -> None:
    network = SPACE.build(torch.tensor([3] * 6), 10)
    small, large = (measure_latency(network, (3, 32, 32), "cuda", batch_size=n) for n in (8, 2048))
    assert large > small
    assert next(network.parameters()).device.type == "cpu"


def test_latency_errors() -> None:
    with pytest.raises(ValueError, match="repeats must be >= 1"):
        measure_latency(nn.Identity(), (3, 4, 4), repeats=0)
    with pytest.raises(ValueError, match="meta device"):
        measure_latency(nn.Linear(3, 3, device="meta"), (3, 3, 3))


def write_table(folder: Path, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A made-up table: all cells in an order of its own, operations in an order of their own."""
    rng = np.random.default_rng(seed)
    cells = np.array(np.unravel_index(rng.permutation(15_625), (5,) * 6), dtype=np.int8).T
    latency = rng.uniform(1, 9, (15_625, 2)).astype(np.float32)
    np.savez(folder / "nasbench201.npz", ops=cells, op_names=np.array(OPERATIONS[::-1]))
    np.savez(folder / "latency.npz", latency_ms=latency, devices=np.array(["phone", "fpga"]))
    return cells, latency


def test_latency_table(tmp_path: Path) -> None:
    cells, latency = write_table(tmp_path)
    table = LatencyTable(tmp_path / "latency.npz")
    assert table.devices == ("phone", "fpga")
    rows = np.array([[5, 17, 9_999], [0, 15_624, 1]])
    found = table.latency(torch.from_numpy(4 - cells[rows]).long(), "fpga")
    assert found.shape == (2, 3)
    assert found.dtype == torch.float64
    assert np.array_equal(found.numpy(), latency[rows, 1].astype(np.float64))


def test_latency_table_errors(tmp_path: Path) -> None:
    cells, latency = write_table(tmp_path)
    table = LatencyTable(tmp_path / "latency.npz")
    with pytest.raises(ValueError, match="no device 'toaster'; it has phone, fpga"):
        table.latency(torch.zeros(6, dtype=torch.int64), "toaster")
    with pytest.raises(ValueError, match="gene 2 of nasbench201"):
        table.latency(torch.tensor([0, 0, 5, 0, 0, 0]), "phone")
    with pytest.raises(FileNotFoundError, match="no benchmark table at"):
        LatencyTable(tmp_path / "absent.npz")
    with pytest.raises(ValueError, match="is a table of nasbench201, expected one of nasbench201_latency"):
        LatencyTable(tmp_path / "nasbench201.npz")
    whole = (tmp_path / "latency.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        LatencyTable(tmp_path / "cut.npz")
    np.savez(tmp_path / "short.npz", latency_ms=latency[:7], devices=np.array(["phone", "fpga"]))
    with pytest.raises(ValueError, match="must be \\(15625, 2\\)"):
        LatencyTable(tmp_path / "short.npz")
    cells[3] = cells[4]
    np.savez(tmp_path / "nasbench201.npz", ops=cells, op_names=np.array(OPERATIONS))
    with pytest.raises(ValueError, match="each of the 15625"):
        LatencyTable(tmp_path / "latency.npz")


def test_the_published_latency_table(nasbench201: dict[str, np.ndarray]) -> None:
    path = TABLES / "nasbench201_latency.npz"
    table = LatencyTable(path)
    assert len(table.devices) == 27
    with np.load(path, allow_pickle=False) as raw:
        place = [str(name) for name in raw["devices"]].index(
            "pixel3" if "pixel3" in table.devices else table.devices[-1]
        )
        expected, device = raw["latency_ms"][:, place], str(raw["devices"][place])
    genes = torch.tensor([OPERATIONS.index(str(nasbench201["op_names"][k])) for k in range(5)])[
        torch.from_numpy(nasbench201["ops"]).long()
    ]
    assert np.array_equal(table.latency(genes, device).numpy(), expected.astype(np.float64))
    cost = np.corrcoef(nasbench201["cifar10/flops"], expected)[0, 1]
    assert cost > 0.5, "latency must go with the FLOPs of the same cell"
