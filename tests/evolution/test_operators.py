import math

import numpy as np
import pytest
import torch
from tests.reference import categorical_steps as reference

from ednag.core.archive import average_rank
from ednag.evolution.operators import PolynomialMutation, min_max, mutate_genes, mutate_some, roulette


def plain_step(u: float, index: float) -> float:
    """Deb & Goyal (1996), unbounded form."""
    if u < 0.5:
        return (2 * u) ** (1 / (index + 1)) - 1
    return 1 - (2 * (1 - u)) ** (1 / (index + 1))


def test_polynomial_mutation_agrees_with_the_formula() -> None:
    rng = np.random.default_rng(0)
    x, choose, u = rng.normal(size=(3, 4, 6)), rng.uniform(size=(3, 4, 6)), rng.uniform(size=(3, 4, 6))
    out = PolynomialMutation(rate=0.4, index=5.0, span=1.5)(*map(torch.from_numpy, (x, choose, u)))
    for i in np.ndindex(*x.shape):
        expected = x[i] + 1.5 * plain_step(u[i], 5.0) if choose[i] < 0.4 else x[i]
        assert out[i].item() == pytest.approx(expected, abs=1e-12)


def test_steps_spread_as_the_distribution_says() -> None:
    """The density of a step d is (index + 1) (1 - |d|)^index / 2, so E|d| = 1 / (index + 2)."""
    u = torch.rand(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = PolynomialMutation(1.0, 5.0, 1.0)(torch.zeros_like(u), torch.zeros_like(u), u)
    assert step.abs().max() <= 1
    assert step.mean().item() == pytest.approx(0, abs=0.002)
    assert step.abs().mean().item() == pytest.approx(1 / 7, abs=0.002)


def test_min_max_stretches_each_member() -> None:
    x = torch.randn(2, 3, 8)
    out = min_max(x, -1, 1)
    torch.testing.assert_close(out.amin(-1), torch.full((2, 3), -1.0))
    torch.testing.assert_close(out.amax(-1), torch.full((2, 3), 1.0))
    assert torch.equal(out.argsort(-1), x.argsort(-1))
    assert min_max(torch.ones(1, 4), 0.1, 1.0).tolist() == [[pytest.approx(0.1)] * 4]


def test_gene_mutation_changes_one_gene_to_every_other_value() -> None:
    cardinalities = torch.tensor([2, 5, 3])
    genes = torch.tensor([1, 4, 0]).expand(3000, 3)
    position = torch.arange(3).repeat(1000)
    shift = torch.rand(3000, generator=torch.Generator().manual_seed(0))
    out = mutate_genes(genes, cardinalities, position, shift)
    assert ((out != genes).sum(-1) == 1).all()
    for gene, others in enumerate(([0], [0, 1, 2, 3], [1, 2])):
        assert out[position == gene][:, gene].unique().tolist() == others


@pytest.mark.parametrize("arguments", [(1.5, 5.0, 2.0), (0.5, -1.0, 2.0), (0.5, 5.0, 0.0), (math.nan, 5.0, 2.0)])
def test_bad_arguments_are_refused(arguments: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="got"):
        PolynomialMutation(*arguments)


def test_some_genes_change_exactly_as_many_as_asked_and_constant_ones_never() -> None:
    cardinalities = torch.tensor([2, 1, 5, 3])
    genes = torch.tensor([1, 0, 4, 2]).expand(4000, 4)
    number = torch.arange(5).repeat(800)
    order, shift = torch.rand((2, 4000, 4), generator=torch.Generator().manual_seed(0))
    out = mutate_some(genes, cardinalities, number, order, shift)
    assert torch.equal((out != genes).sum(-1), number.clamp(max=3))
    assert ((out >= 0) & (out < cardinalities)).all()
    changed = out[(number == 1) & (out[:, 2] != 4), 2]
    assert (torch.bincount(changed, minlength=5)[:4] / len(changed)).tolist() == pytest.approx([0.25] * 4, abs=0.08)
    assert len(changed) / 800 == pytest.approx(1 / 3, abs=0.06)


def test_ranks_agree_with_counting() -> None:
    fitness = torch.tensor([3.0, -math.inf, 5.0, 3.0, -2.0e12, -math.inf, -5.0e12], dtype=torch.float64)
    member = torch.ones_like(fitness, dtype=torch.bool)
    assert average_rank(fitness, member).tolist() == reference.average_rank(fitness.tolist())
    member[2] = member[5] = False
    some = average_rank(fitness, member)[member].tolist()
    assert some == reference.average_rank(fitness[member].tolist())


def test_the_roulette_draws_by_its_weights() -> None:
    log_weight = torch.tensor([[-2 / 1.5, 0.0, -torch.inf, -3 / 1.5]], dtype=torch.float64) - 50
    drawn = roulette(log_weight, torch.rand((1, 40000), generator=torch.Generator().manual_seed(0)))
    weights = [math.exp(-2 / 1.5), 1.0, 0.0, math.exp(-3 / 1.5)]
    share = torch.bincount(drawn[0], minlength=4) / 40000
    assert share.tolist() == pytest.approx([w / sum(weights) for w in weights], abs=0.01)
