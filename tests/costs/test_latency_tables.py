"""The latency model of MobileNetV3 against measurements that it never saw, and against latencies that add up exactly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from ednag.core.archive import INFEASIBLE
from ednag.core.noise import Noise
from ednag.costs.latency_tables import LatencyModel, LatencyTable, load_latencies
from ednag.costs.model import CostModel, Limits
from ednag.fitness.constrained import ConstrainedFitness
from ednag.spaces import MobileNetV3, NASBench201
from tests.conftest import TABLES
from tests.fitness.test_constrained import SumOfGenes

SPACE = MobileNetV3()


def additive(genes: torch.Tensor, side: int) -> float:
    """A device whose layers take 0.1 ms, and more by kernel, expansion and pixels."""
    settings = SPACE.settings(genes)
    pixels = (side / 224) ** 2
    layers = [(k, e) for k, e in zip(settings["ks"], settings["e"], strict=True) if k]
    cost = {(3, 3): 0.1, (3, 4): 0.2, (3, 6): 0.5, (5, 3): 0.3, (5, 4): 0.4, (5, 6): 0.7}
    cost |= {(7, e): cost[5, e] + 0.6 for e in (3, 4, 6)}
    return 1 + sum(0.1 + pixels * cost[layer] for layer in layers)


def write_table(path: Path, rows: int = 1200) -> torch.Tensor:
    genes = SPACE.random(Noise([3]), rows)[0]
    sides = np.random.default_rng(0).choice(range(128, 225, 4), rows)
    settings = [SPACE.settings(row) for row in genes]
    latency = np.array([[additive(row, side), 2.0] for row, side in zip(genes, sides, strict=True)])
    arrays = {f"help_{name}": np.array([s[name] for s in settings], dtype=np.int8) for name in ("ks", "e", "d")}
    np.savez(path, help_r=sides, help_latency_ms=latency, help_devices=np.array(["phone", "still"]), **arrays)
    return genes


def test_latencies_that_add_up_are_met(tmp_path: Path) -> None:
    write_table(tmp_path / "ofa.npz")
    model = load_latencies(tmp_path / "ofa.npz")
    assert isinstance(model, LatencyModel)
    assert model.devices == ("phone", "still")
    assert max(model.errors.values()) < 0.1
    genes = SPACE.random(Noise([9]), 6)[0]
    for side in (128, 160, 224):
        model.setup(SPACE, side)
        expected = [additive(row, side) for row in genes]
        found = model.latency(genes.view(2, 3, -1), "phone")
        assert found.shape == (2, 3)
        assert found.flatten().tolist() == pytest.approx(expected, rel=5e-3)
        assert model.latency(genes, "still").tolist() == pytest.approx([2.0] * 6, rel=1e-3)
    inert = SPACE.canonical(genes)
    assert torch.equal(model.latency(inert, "phone"), model.latency(genes, "phone"))


def test_measured_latencies_are_predicted() -> None:
    path = TABLES / "ofa_mobilenetv3.npz"
    model = LatencyModel(path)
    large = {name: error for name, error in model.errors.items() if name.endswith("_64")}
    assert len(model.errors) == 12
    assert max(large.values()) < 4
    assert max(model.errors.values()) < 9
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[f"help_{name}"] for name in ("ks", "e", "d", "r", "latency_ms")}
    held = torch.randperm(5000, generator=torch.Generator().manual_seed(0))[:1000]  # what the model never saw
    at = [int(i) for i in held if arrays["r"][i] == 224]
    rows = [[arrays[name][i].tolist() for name in ("ks", "e", "d")] for i in at]
    found = model.latency(torch.stack([SPACE.from_settings(*row) for row in rows]), "titan_rtx_64").numpy()
    measured = arrays["latency_ms"][at, model.column("titan_rtx_64")]
    assert len(at) > 20
    assert spearmanr(found, measured)[0] > 0.95
    assert abs(found / measured - 1).mean() < 0.04


def test_a_latency_limit_holds_for_mobilenetv3(tmp_path: Path) -> None:
    write_table(tmp_path / "ofa.npz")
    costs = CostModel(latency_table=tmp_path / "ofa.npz", latency_device="phone", network={"resolution": 160})
    genes = SPACE.random(Noise([4]), 5)[0]
    expected = torch.tensor([additive(row, 160) for row in genes])
    limit = float(expected.median()) + 0.05
    fitness = ConstrainedFitness(SumOfGenes(), Limits(max_latency_ms=limit), costs)
    fitness.setup(SPACE)
    values = fitness(genes, torch.ones(5, dtype=torch.bool))
    assert ((values <= INFEASIBLE) == (expected > limit)).all()
    assert [c.latency_ms for c in fitness.costs(genes)] == pytest.approx(expected.tolist(), rel=5e-3)


def test_what_does_not_serve_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "ofa.npz", 60)
    model = LatencyModel(tmp_path / "ofa.npz")
    with pytest.raises(ValueError, match="no device 'pixel3'; it has phone, still"):
        CostModel(latency_table=tmp_path / "ofa.npz", latency_device="pixel3")
    with pytest.raises(ValueError, match="of mobilenetv3, not nasbench201"):
        CostModel(latency_table=tmp_path / "ofa.npz", latency_device="phone").setup(NASBench201())
    with pytest.raises(ValueError, match=r"width 1\.0"):
        model.setup(MobileNetV3(1.2), 224)
    with pytest.raises(ValueError, match=r"not 32; set cost\.network"):
        CostModel(latency_table=tmp_path / "ofa.npz", latency_device="phone").setup(SPACE)
    arrays = dict(np.load(tmp_path / "ofa.npz"))
    for change in ({"help_r": arrays["help_r"][:3]}, {"help_d": arrays["help_d"] + 3}, {"help_ks": None}):
        np.savez(tmp_path / "bad.npz", **{k: v for k, v in {**arrays, **change}.items() if v is not None})
        with pytest.raises(ValueError, match=r"table of MobileNetV3 latencies|lacks help_ks"):
            load_latencies(tmp_path / "bad.npz")
    (tmp_path / "bad.npz").write_bytes((tmp_path / "ofa.npz").read_bytes()[:300])
    with pytest.raises(ValueError, match="damaged"):
        load_latencies(tmp_path / "bad.npz")
    with pytest.raises(FileNotFoundError, match="no benchmark table at"):
        load_latencies(tmp_path / "none.npz")


def test_tables_are_found_by_name() -> None:
    assert isinstance(load_latencies("nasbench201_latency"), LatencyTable)
    assert isinstance(load_latencies(Path("ofa_mobilenetv3")), LatencyModel)
    with pytest.raises(ValueError, match="no data called 'nothing'"):
        load_latencies("nothing")
