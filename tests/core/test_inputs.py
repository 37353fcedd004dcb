"""Which files a run has read, found in its parts."""

from pathlib import Path

import torch

from ednag.core.inputs import InputFile, input_files, sha256
from ednag.core.manifest import manifest
from ednag.costs.model import CostModel, Limits
from ednag.fitness import BenchmarkFitness, NASBench101Fitness
from ednag.fitness.constrained import ConstrainedFitness
from tests.conftest import TABLES


def test_files_are_found_however_deeply_they_are_held() -> None:
    fitness = BenchmarkFitness("nasbench201")
    costs = CostModel(latency_table="nasbench201_latency", latency_device="pixel3")
    files = {str(TABLES / f"{name}.npz") for name in ("nasbench201", "nasbench201_latency")}
    found = input_files({"parts": [fitness, (costs,)]}, fitness, 3, None)
    assert set(found) == files
    assert found == {path: sha256(Path(path)) for path in sorted(files)}
    assert list(input_files(ConstrainedFitness(NASBench101Fitness(), Limits(max_params=1e6)))) == [
        str(TABLES / "nasbench101_sample.npz")
    ]
    assert input_files(torch.zeros(3), Path("x"), [object()]) == {}


def test_circles_end_and_the_manifest_names_the_files(tmp_path: Path) -> None:
    parts: list[object] = [InputFile(tmp_path / "t.npz", "ab")]
    parts.append(parts)
    assert manifest([0], torch.device("cpu"), {}, {}, parts)["inputs"] == {str(tmp_path / "t.npz"): "ab"}
