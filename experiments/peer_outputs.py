"""Outputs of the benchmarks' own networks, stored as numbers for the tests.

    python experiments/peer_outputs.py FOLDER tests/reference/peer_outputs.json

FOLDER holds the unpacked packages `xautodl` (by the authors of NAS-Bench-201), `ofa` (by those of once-for-all) and
`nasbench_pytorch` (NAS-Bench-101 in PyTorch, not by its authors), and checkouts of TransNASBench and of darts (its model for
ImageNet counts with Python 2's `xrange`). Their networks and ours get the same inputs and the same weights, by a formula
(`tests/reference/formula.py`) that depends on the order in which layers are used and not on their names. What is stored are the
peers' logits, in train and in eval mode. With --only, the others stay as they are stored.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from functools import partial
from math import isqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from ednag.core.storage import write_json
from ednag.spaces import DARTS

CELLS = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
    "|none~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|",
    "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|nor_conv_1x1~0|avg_pool_3x3~1|skip_connect~2|",
)
TRANSNAS = ("64-4231-basic", "64-113121-basic", "64-41414-3_21_012", "64-41414-1_02_333")
"""Skeletons and cells, as the benchmark writes them."""

SUBNETS = (([3, 5, 7, 3], [3, 4, 6, 4], 2), ([7, 7, 5, 3], [6, 3, 4, 6], 4))
"""Kernels and expansions of the places of each stage, and depth of each stage."""

GENOTYPES = (
    "Genotype(normal=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 0), ('sep_conv_5x5', 2), ('sep_conv_3x3', 2), "
    "('dil_conv_5x5', 3), ('sep_conv_3x3', 0), ('sep_conv_5x5', 1)], normal_concat=range(2, 6), reduce=[('skip_connect', 0), "
    "('skip_connect', 1), ('max_pool_3x3', 1), ('avg_pool_3x3', 2), ('skip_connect', 1), ('sep_conv_3x3', 2), "
    "('sep_conv_5x5', 0), ('dil_conv_3x3', 3)], reduce_concat=range(2, 6))",
    "Genotype(normal=[('skip_connect', 0), ('dil_conv_3x3', 1), ('max_pool_3x3', 1), ('dil_conv_3x3', 2), ('skip_connect', 0), "
    "('dil_conv_3x3', 3), ('sep_conv_3x3', 3), ('sep_conv_3x3', 4)], normal_concat=range(2, 6), reduce=[('sep_conv_5x5', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_5x5', 0), ('skip_connect', 2), ('sep_conv_3x3', 0), ('sep_conv_3x3', 3), "
    "('sep_conv_5x5', 0), ('sep_conv_3x3', 4)], reduce_concat=range(2, 6))",
)

GRAPHS = (
    "0111000000011000010000000010000000100000010000000 input,conv1x1-bn-relu,maxpool3x3,conv3x3-bn-relu,maxpool3x3,"
    "conv1x1-bn-relu,output",
    "0101000100000100000100000 input,conv3x3-bn-relu,conv1x1-bn-relu,maxpool3x3,output",
    "0111001001000000001000000001000001000000010000000 input,maxpool3x3,conv1x1-bn-relu,conv3x3-bn-relu,conv1x1-bn-relu,"
    "maxpool3x3,output",
)


def nasbench201(text: str) -> nn.Module:
    """NAS-Bench-201's own network, 16 channels, one cell a stage."""
    tiny = importlib.import_module("xautodl.models.cell_infers.tiny_network").TinyNetwork
    structure = importlib.import_module("xautodl.models.cell_searchs.genotypes").Structure
    return Logits(tiny(16, 1, structure.str2structure(text), 10), 1)


def transnas101(text: str) -> nn.Module:
    """TransNAS-Bench-101's own network."""
    network: nn.Module = importlib.import_module("models.net_infer.net_macro").MacroNet(text, "full", (64, 64), 75)
    return network


def kind(text: str) -> str:
    """Tell skeletons from cells."""
    return "macro" if text.endswith("basic") else "micro"


def once_for_all(kernels: list[int], expansions: list[int], depth: int) -> nn.Module:
    """A sub-network of once-for-all's own supernet."""
    supernet = importlib.import_module("ofa.imagenet_classification.elastic_nn.networks").OFAMobileNetV3(
        dropout_rate=0, width_mult=1.0, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]
    )
    supernet.set_active_subnet(ks=kernels * 5, e=expansions * 5, d=[depth] * 5)
    subnet: nn.Module = supernet.get_active_subnet(preserve_weight=False)
    return subnet


def darts(text: str, stem: str) -> nn.Module:
    """DARTS' own network, 4 channels and 6 cells, no drop path."""
    space = DARTS()
    normal, reduction = space.cells(space.parse(text))
    genotype = SimpleNamespace(normal=normal, normal_concat=range(2, 6), reduce=reduction, reduce_concat=range(2, 6))
    model: Any = importlib.import_module("model")
    model.xrange = range
    kind = model.NetworkCIFAR if stem == "cifar" else model.NetworkImageNet
    network = kind(4, 10, 6, False, genotype)
    network.drop_path_prob = 0.0
    return Logits(network, 0)


def nasbench101(text: str) -> nn.Module:
    """NAS-Bench-101's network in PyTorch, 16 channels and one cell a stack.

    That program gives the momentum to some layers only, so it is PyTorch's own here, and not the benchmark's.
    """
    bits, _, labels = text.partition(" ")
    matrix = np.array([int(bit) for bit in bits]).reshape(isqrt(len(bits)), -1)
    peer: Any = importlib.import_module("nasbench_pytorch.model")
    network: nn.Module = peer.Network(peer.ModelSpec(matrix, labels.split(",")), 10, 3, 16, 3, 1, momentum=0.1)
    return network


class Logits(nn.Module):
    """Picks the logits of a network that returns more."""

    def __init__(self, network: nn.Module, place: int) -> None:
        super().__init__()
        self.network, self.place = network, place

    def forward(self, x: torch.Tensor) -> Any:
        """Return them."""
        return self.network(x)[self.place]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--only", default="", help="spaces whose name contains this")
    options = parser.parse_args()
    own = options.packages
    sys.path[:0] = map(str, (own, own / "TransNASBench" / "lib", own / "darts" / "cnn", Path(__file__).parents[1]))
    formula = importlib.import_module("tests.reference.formula")
    cases: list[tuple[str, Any, Callable[[], nn.Module], tuple[int, ...]]] = [
        *(("nasbench201", text, partial(nasbench201, text), (4, 3, 32, 32)) for text in CELLS),
        *((f"transnas101_{kind(text)}", text, partial(transnas101, text), (2, 3, 64, 64)) for text in TRANSNAS),
        *(
            (
                "mobilenetv3",
                {"ks": ks * 5, "e": e * 5, "d": [depth] * 5},
                partial(once_for_all, ks, e, depth),
                (2, 3, 64, 64),
            )
            for ks, e, depth in SUBNETS
        ),
        *(
            (f"darts-{stem}", text, partial(darts, text, stem), (2, 3, side, side))
            for text in GENOTYPES
            for stem, side in (("cifar", 32), ("imagenet", 224))
        ),
        *(("nasbench101", text, partial(nasbench101, text), (2, 3, 32, 32)) for text in GRAPHS),
    ]
    kept = [case for case in json.loads(options.output.read_text()) if options.only not in case["space"]]
    out = [
        {"space": space, "architecture": architecture, **formula.outputs(make(), shape)}
        for space, architecture, make, shape in cases
        if options.only in space
    ]
    write_json(options.output, [*kept, *out])
    print(f"{len(out)} networks")


if __name__ == "__main__":
    main()
