"""Outputs of the benchmarks' own networks, stored as numbers for the tests.

    python experiments/peer_outputs.py FOLDER tests/reference/peer_outputs.json

FOLDER holds the unpacked packages `xautodl` (by the authors of NAS-Bench-201) and `ofa` (by those of once-for-all), and a
checkout of TransNASBench. Their their networks and ours get the same inputs
and the same weights, by a formula (`tests/reference/formula.py`) that depends on the order in which layers are used and not on
their names. What is stored are the peers' logits, in train and in eval mode.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ednag.core.storage import write_json

CELLS = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
    "|none~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|",
    "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|nor_conv_1x1~0|avg_pool_3x3~1|skip_connect~2|",
)
TRANSNAS = ("64-4231-basic", "64-113121-basic", "64-41414-3_21_012", "64-41414-1_02_333")
"""Skeletons and cells, as the benchmark writes them."""

SUBNETS = (([3, 5, 7, 3], [3, 4, 6, 4], 2), ([7, 7, 5, 3], [6, 3, 4, 6], 4))
"""Kernels and expansions of the places of each stage, and depth of each stage."""


def nasbench201(text: str) -> nn.Module:
    """NAS-Bench-201's own network, 16 channels, one cell a stage."""
    tiny = importlib.import_module("xautodl.models.cell_infers.tiny_network").TinyNetwork
    structure = importlib.import_module("xautodl.models.cell_searchs.genotypes").Structure
    return Logits(tiny(16, 1, structure.str2structure(text), 10), 1)


def transnas101(text: str) -> nn.Module:
    """TransNAS-Bench-101's own network."""
    return importlib.import_module("models.net_infer.net_macro").MacroNet(text, "full", (64, 64), 75)


def kind(text: str) -> str:
    """Tell skeletons from cells."""
    return "macro" if text.endswith("basic") else "micro"


def once_for_all(kernels: list[int], expansions: list[int], depth: int) -> nn.Module:
    """A sub-network of once-for-all's own supernet."""
    supernet = importlib.import_module("ofa.imagenet_classification.elastic_nn.networks").OFAMobileNetV3(
        dropout_rate=0, width_mult=1.0, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]
    )
    supernet.set_active_subnet(ks=kernels * 5, e=expansions * 5, d=[depth] * 5)
    return supernet.get_active_subnet(preserve_weight=False)


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
    options = parser.parse_args()
    peers = (options.packages, options.packages / "TransNASBench" / "lib", Path(__file__).parents[1])
    sys.path[:0] = map(str, peers)
    formula = importlib.import_module("tests.reference.formula")
    cases: list[tuple[str, Any, nn.Module, tuple[int, ...]]] = [
        *(("nasbench201", text, nasbench201(text), (4, 3, 32, 32)) for text in CELLS),
        *((f"transnas101_{kind(text)}", text, transnas101(text), (2, 3, 64, 64)) for text in TRANSNAS),
        *(
            ("mobilenetv3", {"ks": ks * 5, "e": e * 5, "d": [depth] * 5}, once_for_all(ks, e, depth), (2, 3, 64, 64))
            for ks, e, depth in SUBNETS
        ),
    ]
    out = [
        {"space": space, "architecture": architecture, **formula.outputs(network, shape)}
        for space, architecture, network, shape in cases
    ]
    write_json(options.output, out)
    print(f"{len(out)} networks")


if __name__ == "__main__":
    main()
