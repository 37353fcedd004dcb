"""The space of the example package by hand; test_docs.py runs the whole package as a user would."""

import sys
from itertools import product
from pathlib import Path

import torch

from ednag.costs.counting import count_costs

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))
from ednag.testing import SpaceChecks  # noqa: E402
from own_parts import Chain  # noqa: E402

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


def test_the_examples_are_short_and_ednag_knows_nothing_of_them() -> None:
    files = list((ROOT / "examples/own_parts").glob("*.py"))
    assert len(files) == 5
    assert all(len(path.read_text().splitlines()) < 80 for path in files)
    assert not [path for path in (ROOT / "src").rglob("*.py") if "own_parts" in path.read_text()]
