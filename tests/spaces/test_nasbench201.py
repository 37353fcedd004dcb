import numpy as np
import pytest
import torch
from torch import nn

from ednag.core.noise import Noise
from ednag.spaces import NASBench201
from ednag.spaces.nasbench201 import OPERATIONS
from ednag.testing import SpaceChecks

SPACE = NASBench201()
ALL_3X3 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"


class TestNASBench201(SpaceChecks):
    space = SPACE
    texts = (ALL_3X3, "|avg_pool_3x3~0|+|none~0|skip_connect~1|+|none~0|nor_conv_1x1~1|none~2|")
    bad_texts = (
        "",
        "64-41414-1_02_333",
        ALL_3X3.replace("~2", "~1"),
        ALL_3X3.replace("nor_conv_3x3~2", "sep_conv_3x3~2"),
        ALL_3X3[:-1],
    )


def table_genes(table: dict[str, np.ndarray]) -> torch.Tensor:
    names = [str(name) for name in table["op_names"]]
    ours = torch.tensor([OPERATIONS.index(name) for name in names])
    return ours[torch.from_numpy(table["ops"].astype(np.int64))]


def test_identity_agrees_with_the_benchmark_for_all_cells(nasbench201: dict[str, np.ndarray]) -> None:
    identity = SPACE.identity(table_genes(nasbench201))
    unique_id = torch.from_numpy(nasbench201["unique_id"].astype(np.int64))
    pairs = torch.stack([identity, unique_id]).unique(dim=1)
    assert len(identity.unique()) == len(unique_id.unique()) == pairs.shape[1] == 6466


@pytest.mark.parametrize(
    ("dataset", "classes", "size"), [("cifar10", 10, 32), ("cifar100", 100, 32), ("imagenet16-120", 120, 16)]
)
def test_parameters_equal_the_benchmark(
    nasbench201: dict[str, np.ndarray], dataset: str, classes: int, size: int
) -> None:
    genes = table_genes(nasbench201)
    for row in range(0, 15625, 997):
        with torch.device("meta"):
            network = SPACE.build(genes[row], classes)
        assert sum(p.numel() for p in network.parameters()) == nasbench201[f"{dataset}/params"][row]


def plain_cell(edges: list[nn.Module | None], x: torch.Tensor) -> torch.Tensor:
    """The cell written out: edges (0,1), (0,2), (1,2), (0,3), (1,3), (2,3)."""
    e = [edge if edge is not None else torch.zeros_like for edge in edges]
    a = e[0](x)
    b = e[1](x) + e[2](a)
    return e[3](x) + e[4](a) + e[5](b)


def test_cell_computes_the_sum_over_its_edges() -> None:
    genes = SPACE.parse("|nor_conv_1x1~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|nor_conv_3x3~1|skip_connect~2|")
    torch.manual_seed(0)
    cell = SPACE.build(genes, 10, channels=4, cells=1)[1].eval()
    conv1, skip, pool, conv3, skip2 = cell.operations
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(cell(x), plain_cell([conv1, skip, None, pool, conv3, skip2], x))


def test_edges_leave_out_what_carries_nothing() -> None:
    cell = SPACE.parse("|nor_conv_1x1~0|+|skip_connect~0|none~1|+|none~0|none~1|avg_pool_3x3~2|")
    assert SPACE.edges(cell)["cell"] == [
        ("in", "1", "nor_conv_1x1"),
        ("in", "2", "skip_connect"),
        ("2", "out", "avg_pool_3x3"),
    ]


def test_a_cell_without_a_path_gives_the_same_logits_for_every_image() -> None:
    network = SPACE.build(SPACE.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"), 10, channels=4, cells=1)
    logits = network.eval()(torch.randn(3, 3, 16, 16))
    torch.testing.assert_close(logits[0], logits[1])


def test_image_size_channels_and_stem_are_free() -> None:
    network = SPACE.build(SPACE.parse(ALL_3X3), 5, in_channels=1, channels=8, cells=1, stem_stride=2)
    assert network(torch.randn(2, 1, 61, 47)).shape == (2, 5)
    assert isinstance(network[0][0], nn.Conv2d)
    assert network[0][0].stride == (2, 2)


def test_published_layout_has_symbols_that_make_a_cell_invalid() -> None:
    x = torch.zeros(1, 8, 7)
    x[0, 1:7, 3] = 1.0
    genes = SPACE.published_layout.decode(x.flatten(1))
    assert genes.tolist() == [[2] * 6]
    x[0, 4, 6] = 2.0  # an edge that says "output"
    assert not SPACE.valid(SPACE.published_layout.decode(x.flatten(1))).any()


def test_random_cells_are_uniform_over_classes() -> None:
    genes = SPACE.random(Noise([0, 1]), 100_000)
    times = torch.unique(SPACE.identity(genes), return_counts=True)[1]
    assert len(times) == 6466
    expected = 200_000 / 6466
    chi = ((times - expected) ** 2 / expected).sum()
    assert abs(float(chi) - 6465) < 5 * (2 * 6465) ** 0.5
    members = genes[SPACE.identity(genes) == 0].unique(dim=0)
    assert len(members) > 10  # those of the largest class turn up alike
    assert torch.equal(SPACE.random(Noise([1]), 100_000)[0], genes[1])
