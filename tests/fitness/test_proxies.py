"""Every proxy against a plain restatement of its paper's equation, and at the edges of arithmetic."""

import math
import runpy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ednag.fitness import proxies
from ednag.fitness.proxies import PROXIES, measure
from ednag.spaces import NASBench201

reference = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "reference/zero_cost.py")))
SPACE = NASBench201()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    return torch.randn(8, 3, 12, 12, generator=random), torch.randint(0, 10, (8,), generator=random)


def network(*genes: int, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SPACE.build(torch.tensor(genes), 10, channels=4, cells=1)


@pytest.mark.parametrize("genes", [(3, 2, 4, 1, 0, 3), (2, 3, 3, 4, 1, 2)])
def test_gradient_proxies(batch: tuple[Tensor, Tensor], genes: tuple[int, ...]) -> None:
    found = measure(network(*genes), ["snip", "grad_norm", "zico", "naswot", "jacob_cov"], *batch)
    assert found["snip"] == pytest.approx(reference.snip(network(*genes), *batch), rel=1e-3)
    (whole,) = reference.part_gradients(network(*genes), *batch, 1)
    assert found["grad_norm"] == pytest.approx(reference.grad_norm(whole), rel=1e-3)
    parts = reference.part_gradients(network(*genes), *batch, 2)
    assert found["zico"] == pytest.approx(reference.zico(parts), rel=1e-3)
    assert found["naswot"] == pytest.approx(reference.naswot(network(*genes), batch[0]), rel=1e-6)
    assert found["jacob_cov"] == pytest.approx(reference.jacob_cov(network(*genes), batch[0]), rel=1e-3)


def test_a_weight_without_gradient_counts_as_zero(batch: tuple[Tensor, Tensor]) -> None:
    """Edge (0, 1) leads nowhere: its convolution gets no gradient from the loss."""
    dead_end = network(3, 3, 0, 0, 0, 1)
    parts = proxies.gradients(dead_end, *batch, 2)
    assert any(bool((g == 0).all()) for g in parts[0])
    assert math.isfinite(proxies.zico(parts))


def chain(sizes: list[int], seed: int = 0) -> nn.Sequential:
    random = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layer = nn.Linear(inputs, outputs, bias=False)
        layer.weight.data = torch.randn(outputs, inputs, generator=random)
        layers += [layer, nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("sizes", [[12, 1], [12, 5, 3], [48, *[128] * 40, 10]])
def test_synflow_of_a_chain(sizes: list[int]) -> None:
    """The last chain's flow is 10**80: beyond single precision, and its logarithm is what it should be."""
    net = chain(sizes)
    matrices = [layer.weight.detach().numpy() for layer in net if isinstance(layer, nn.Linear)]
    expected = reference.synflow_of_linear_chain(matrices)
    assert proxies.synflow(net, (3, 2, sizes[0] // 6)) == pytest.approx(expected, rel=1e-12)
    if len(sizes) > 10:
        assert expected > math.log(torch.finfo(torch.float32).max)


def test_synflow_beyond_double_precision_is_not_finite() -> None:
    net = chain([12, 4])
    with torch.no_grad():
        net[1].weight.mul_(1e38)
    big = nn.Sequential(net, *[nn.Linear(4, 4) for _ in range(9)])
    with torch.no_grad():
        for layer in big[1:]:
            layer.weight.fill_(1e38)
    assert not math.isfinite(proxies.synflow(big, (3, 2, 2)))


def test_synflow_sees_past_normalisation_and_the_sign_of_weights() -> None:
    net = network(3, 2, 4, 1, 0, 3)
    before = proxies.synflow(net, (3, 8, 8))
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.mul_(7)
                module.running_var.mul_(5)
            elif isinstance(module, nn.Conv2d):
                module.weight.neg_()
    assert proxies.synflow(net, (3, 8, 8)) == before


def test_zen_of_one_block() -> None:
    conv = nn.Conv2d(3, 6, 3, padding=1, bias=False)
    net = nn.Sequential(conv, nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    found = proxies.zen(net, (3, 10, 10), batch_size=4, generator=torch.Generator().manual_seed(5))
    random = torch.Generator().manual_seed(5)
    weight = torch.randn(conv.weight.shape, generator=random)
    torch.randn(4, 6, generator=random)
    x = torch.randn(4, 3, 10, 10, generator=random)
    moved = x + 0.01 * torch.randn(4, 3, 10, 10, generator=random)
    assert found == pytest.approx(reference.zen_of_one_block(weight, x, moved), abs=2e-3)


def test_naswot_cannot_tell_equal_images_apart(batch: tuple[Tensor, Tensor]) -> None:
    images = batch[0].clone()
    images[1] = images[0]
    assert proxies.naswot(network(3, 2, 4, 1, 0, 3), images) == -math.inf


def test_costs_are_proxies(batch: tuple[Tensor, Tensor]) -> None:
    net = network(3, 2, 4, 1, 0, 3)
    found = measure(net, ["flops", "params"], *batch)
    assert found["params"] == sum(np.prod(p.shape) for p in net.parameters())
    assert list(found) == ["flops", "params"]


def test_a_network_is_left_as_it_was(batch: tuple[Tensor, Tensor]) -> None:
    net = network(3, 2, 4, 1, 0, 3)
    net[0].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    measure(net, PROXIES, *batch, generator=torch.Generator().manual_seed(0))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net[0].training
    assert net[1].training
    assert all(p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_proxies_measured_alone_and_together_are_the_same(batch: tuple[Tensor, Tensor]) -> None:
    def one(*names: str) -> dict[str, float]:
        return measure(network(3, 2, 4, 1, 0, 3), names, *batch, generator=torch.Generator().manual_seed(1))

    together = one(*PROXIES)
    assert together == {name: one(name)[name] for name in PROXIES}


def test_nothing_reaches_the_output(batch: tuple[Tensor, Tensor]) -> None:
    """The cell of six ``none``: the lowest score by every proxy, or none at all."""
    dead = measure(network(0, 0, 0, 0, 0, 0), PROXIES, *batch)
    alive = [measure(network(*genes), PROXIES, *batch) for genes in ((1, 1, 1, 1, 1, 1), (0, 0, 0, 4, 0, 0))]
    for name in PROXIES:
        assert all(dead[name] <= other[name] for other in alive), name
    assert all(dead[name] == -math.inf for name in ("synflow", "naswot", "zen", "zico", "jacob_cov"))


def test_zen_has_no_term_for_a_convolution_that_gets_nothing() -> None:
    """Where the variance is zero there is nothing to make up for: no constant such as log sqrt(1e-5) = -5.8 is added."""
    dead, none = network(0, 3, 0, 0, 3, 3), network(0, 3, 0, 0, 0, 3)  # edge (1, 3) carries a convolution of zeros
    seeds = range(8)
    scores = [
        sum(proxies.zen(net, (3, 12, 12), generator=torch.Generator().manual_seed(seed)) for seed in seeds) / len(seeds)
        for net in (dead, none)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.5)


def test_not_a_number_is_never_hidden(batch: tuple[Tensor, Tensor]) -> None:
    net = network(3, 2, 4, 1, 0, 3)
    with torch.no_grad():
        net[0][0].weight[0, 0, 0, 0] = math.nan
    found = measure(net, ["snip", "grad_norm", "zico", "naswot", "jacob_cov", "synflow"], *batch)
    assert not any(math.isfinite(value) for value in found.values()), found


def test_errors(batch: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="unknown proxy 'swap'; allowed: params"):
        measure(network(1, 1, 1, 1, 1, 1), ["swap"], batch[0])
    with pytest.raises(ValueError, match="need labels"):
        measure(network(1, 1, 1, 1, 1, 1), ["snip"], batch[0])
    with pytest.raises(ValueError, match="zen needs a network with"):
        proxies.zen(nn.Sequential(nn.Conv2d(3, 4, 1)), (3, 4, 4))
