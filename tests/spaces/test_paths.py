from collections import Counter

import pytest
import torch

from ednag.spaces import NASBench201
from ednag.spaces.nasbench201 import EDGES
from ednag.spaces.paths import path_features
from tests.reference.categorical_steps import cell_paths

SPACE = NASBench201()


def shared_paths(a: Counter, b: Counter) -> int:
    return sum(((a - b) + (b - a)).values())


def test_squared_distance_counts_the_paths_that_two_cells_do_not_share() -> None:
    cells = torch.randint(0, 5, (60, 6), generator=torch.Generator().manual_seed(0))
    paths = [cell_paths(tuple(cell.tolist()), list(EDGES), none=0, skip=1) for cell in cells]
    features = SPACE.features(cells)
    assert features.shape == (60, 70)
    assert features.dtype == torch.float32
    for i in range(0, 60, 2):
        for j in range(60):
            assert int((features[i] - features[j]).square().sum()) == shared_paths(paths[i], paths[j])


def test_isomorphic_cells_have_the_same_features() -> None:
    genes = torch.cartesian_prod(*[torch.arange(5)] * 6)
    features, keys = SPACE.features(genes), SPACE.identity(genes)
    assert torch.equal(features, features[keys])  # a key is the code of one member of the class


def test_a_cell_that_is_cut_off_has_no_path() -> None:
    assert not SPACE.features(torch.zeros(6, dtype=torch.int64)).any()
    only_last = torch.tensor([0, 0, 0, 3, 0, 0])  # 0 -> 3 by a 3x3 convolution
    assert int(SPACE.features(only_last).sum()) == 1


def test_any_batch_shape() -> None:
    genes = torch.randint(0, 5, (2, 3, 6))
    assert torch.equal(SPACE.features(genes)[1, 2], SPACE.features(genes[1, 2]))


def test_an_alphabet_without_none_or_skip() -> None:
    features = path_features([(0, 1), (1, 2), (0, 2)], 2, none=None, skip=None)
    assert features.shape[0] == 8
    assert (features.sum(-1) == 2).all()  # both routes always carry signal


def test_too_large_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="tabulated"):
        path_features([(i, j) for j in range(1, 6) for i in range(j)], 5, 0, 1)


def test_a_space_has_no_features_by_default() -> None:
    class Plain(NASBench201):
        features = NASBench201.__mro__[1].features

    assert Plain().features(torch.zeros(4, 3, 6, dtype=torch.int64)).shape == (4, 3, 0)


def test_layers_that_lead_nowhere_are_counted_apart() -> None:
    # edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3; operations none, skip, 1x1, 3x3, pool
    cells = torch.tensor([[3, 2, 0, 1, 0, 0], [0, 3, 2, 0, 4, 1], [0, 0, 0, 0, 0, 0]])
    assert SPACE.layers(cells).tolist() == [
        [1, 1, 1, 0, 1, 0, 0, 0],  # the output hears of 0-3 alone
        [1, 1, 1, 1, 1, 1, 1, 1],  # node 1 has no input, but the output hears of what leaves it
        [0] * 8,
    ]


def test_layers_are_values_of_like_genes_by_default() -> None:
    class Plain(NASBench201):
        cardinalities = (3, 2, 3)
        layers = NASBench201.__mro__[1].layers

    assert Plain().layers(torch.tensor([[2, 1, 2], [1, 0, 0]])).tolist() == [[1, 0, 2], [0, 1, 0]]
