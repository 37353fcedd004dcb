"""The example of a user's own space, used as a user would: from outside, by its class path."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from ednag.costs.counting import count_costs
from ednag.generation.report import Report

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))
from chain_space import LAYERS, WIDTHS, Chain  # noqa: E402

from ednag.testing import SpaceChecks  # noqa: E402

SPACE = Chain()


class TestChain(SpaceChecks):
    space = SPACE
    texts = ("16: conv3 pool conv5", "8:", "32: conv3 conv3 conv3 conv3 conv3")
    bad_texts = ("", "16", "12: conv3", "16: conv7", "16: conv3 conv3 conv3 conv3 conv3 conv3", "x: conv3", "16: none")


def test_chains_are_one_where_they_have_the_same_layers_in_the_same_order() -> None:
    genes = torch.tensor(list(product(range(4), repeat=5)))
    genes = torch.cat([genes, torch.zeros(len(genes), 1, dtype=torch.int64)], 1)
    chains = {tuple(layer for layer in row[:5] if layer) for row in genes.tolist()}
    assert len(SPACE.identity(genes).unique()) == len(chains) == sum(3**n for n in range(6))


def test_costs_by_hand() -> None:
    network = SPACE.build(SPACE.parse("8: conv5 pool conv3"), 10, in_channels=1)
    costs = count_costs(network, (1, 16, 16))
    stem, conv5, conv3, head = 8 * 9 + 8, 8 * 8 * 25 + 16, 8 * 8 * 9 + 16, 8 * 10 + 10
    assert costs.params == stem + conv5 + conv3 + head
    assert costs.macs == 256 * (8 * 10 + 1600) + 64 * 576 + 90


def test_the_example_is_short_and_ednag_knows_nothing_of_it() -> None:
    assert len((ROOT / "examples/chain_space/__init__.py").read_text().splitlines()) < 80
    assert not [path for path in (ROOT / "src").rglob("*.py") if "chain_space" in path.read_text()]


@pytest.mark.slow
def test_it_is_generated_retrained_and_loaded_by_its_class_path(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'examples'}{os.pathsep}{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
    quiet = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    run, retrained = tmp_path / "chain", tmp_path / "retrained"
    config = ["--config", str(ROOT / "examples/chain.yaml"), "--evaluations", "10"]
    recipe = ["--config", str(ROOT / "configs/retrain/digits.yaml"), "--network", "{}", "--recipe.epochs", "1"]
    for arguments in (
        ["generate", *config, "--run_dir", str(run)],
        ["retrain", *recipe, "--top_k", "1", "--report", str(run / "report.json"), "--run_dir", str(retrained)],
    ):
        command = [sys.executable, "-m", "ednag", *arguments, *quiet]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr[-2000:]
    report = Report.load(run)
    assert report.space["class_path"] == "chain_space.Chain"
    assert all(int(text.split(":")[0]) in WIDTHS for text in (c.architecture for c in report.candidates))
    assert all(name in LAYERS for c in report.candidates for name in c.architecture.split()[1:])
    assert (run / "best.svg").exists()
    result = json.loads((retrained / "001/metrics.json").read_text())
    assert (result["status"], result["epochs"]) == ("finished", 1)
