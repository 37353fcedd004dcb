import math

import numpy as np
import pytest
import torch

from ednag.core.noise import Noise
from ednag.samplers.surrogate import GaussianProcess, Prior, rank_target
from ednag.spaces import NASBench201, SearchSpace
from tests.reference import categorical_steps as reference

SPACE = NASBench201()


class Uneven(NASBench201):
    """Genes of different cardinality, one constant, no features."""

    cardinalities = (2, 5, 1, 3, 4, 5)
    random = SearchSpace.random  # each gene by itself

    def features(self, genes: torch.Tensor) -> torch.Tensor:
        return super(NASBench201, self).features(genes)


def posed(
    space: NASBench201, m: int = 12, n: int = 7
) -> tuple[GaussianProcess, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    model, noise = GaussianProcess(), Noise([4, 5])
    known, asked = model.embed(space, space.random(noise, m)), model.embed(space, space.random(noise, n))
    member = torch.ones(2, m, dtype=torch.bool)
    member[1, 5:8] = False
    target = torch.randn(2, m, generator=torch.Generator().manual_seed(0), dtype=torch.float64).where(member, 0.0)
    return model, known, target, member, asked


@pytest.mark.parametrize("space", [SPACE, Uneven()])
def test_regression_is_the_textbook_formula(space: NASBench201) -> None:
    model, known, target, member, asked = posed(space)
    mean, deviation = model.predict(space, known, target, member, asked)
    weights = model.weights(space).tolist()
    for run in range(2):
        rows = [i for i in range(12) if member[run, i]]
        k = np.array(
            [[reference.kernel(known[run, i].tolist(), known[run, j].tolist(), weights) for j in rows] for i in rows]
        )
        q = np.array(
            [[reference.kernel(known[run, i].tolist(), a.tolist(), weights) for a in asked[run]] for i in rows]
        )
        inverse = np.linalg.inv(k + model.nugget * np.eye(len(rows)))
        z = target[run, rows].numpy()
        variance = z @ inverse @ z / len(rows)
        assert mean[run].tolist() == pytest.approx((q.T @ inverse @ z).tolist(), rel=1e-6, abs=1e-9)
        left = np.clip(1 - np.einsum("in,ij,jn->n", q, inverse, q), 1e-6, None)
        assert deviation[run].tolist() == pytest.approx(np.sqrt(variance * left).tolist(), rel=1e-5)
        bound = model.score(space, known, target, member, asked)[run]
        assert bound.tolist() == pytest.approx((mean[run] + 1.2 * deviation[run]).tolist(), abs=1e-6)


@pytest.mark.parametrize("space", [SPACE, Uneven()])
def test_scales_are_mean_exponents_between_random_architectures(space: NASBench201) -> None:
    model = GaussianProcess(gene_scale=0.3, feature_scale=0.4)
    genes = space.random(Noise([1]), 1500)
    x = model.embed(space, genes)[0].double()
    hot, weights = 6 * 5, model.weights(space).double()
    for part, scale in ((slice(0, hot), 0.3), (slice(hot, None), 0.4)):
        if x[:, part].shape[1]:
            exponent = torch.cdist(x[:750, part], x[750:, part]).square() * weights[part][0]
            assert float(exponent.mean()) == pytest.approx(scale, rel=0.05)


def test_features_can_be_left_out() -> None:
    assert GaussianProcess(features=False).embed(SPACE, torch.zeros(3, 6, dtype=torch.int64)).shape == (3, 30)
    assert GaussianProcess().embed(SPACE, torch.zeros(3, 6, dtype=torch.int64)).shape == (3, 100)


def test_exponents_are_exact_so_that_a_batch_changes_nothing() -> None:
    model, known, _, member, asked = posed(SPACE, 120, 144)
    together = model.kernel(SPACE, asked, known, member)
    weights = model.weights(SPACE).double()
    for run in range(2):
        difference = (asked[run][:, None] - known[run][None]).double()
        exact = (-(difference.square() * weights).sum(-1)).exp()
        some = member[run]
        assert torch.allclose(together[run][:, some], exact[:, some], rtol=1e-14, atol=0)
        assert (together[run][:, ~some] < 1e-26).all()


def test_rank_targets_stand_out_at_the_top_and_ignore_others() -> None:
    rank = torch.tensor([[2.0, 0.0, 1.0, 7.0]], dtype=torch.float64)
    member = torch.tensor([[True, True, True, False]])
    z = [-math.log((r + 0.5) / 3) for r in (2, 0, 1)]
    mean = sum(z) / 3
    deviation = math.sqrt(sum((v - mean) ** 2 for v in z) / 3)
    target = rank_target(rank, member)[0]
    assert target.tolist() == pytest.approx([*[(v - mean) / deviation for v in z], 0.0])
    tied = rank_target(torch.full((1, 5), 2.0, dtype=torch.float64), torch.ones(1, 5, dtype=torch.bool))
    assert tied.abs().max() < 1e-9


def test_no_members_at_all_give_finite_scores() -> None:
    model, known, target, member, asked = posed(SPACE)
    score = model.score(SPACE, known, target * 0, member & False, asked)
    assert score.isfinite().all()


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="nugget"):
        GaussianProcess(nugget=0)


class Independent(NASBench201):
    """Each gene is drawn by itself."""

    random = SearchSpace.random


def test_a_prior_is_its_rank_among_random_architectures() -> None:
    space = Independent()
    prior = Prior(lambda genes, valid: genes[..., 0].double() ** 3, space)
    values = prior(torch.arange(5)[None, :, None].expand(1, 5, 6), torch.ones(1, 5, dtype=torch.bool))[0]
    share = torch.arange(5, 0, -1) / 5 - 0.1  # better ones, and half of the equals
    shape = -share.log()
    wanted = (shape - shape.mean()) / shape.std(correction=0)
    assert values.tolist() == pytest.approx(wanted.tolist(), abs=0.15)
    many = prior(space.random(Noise([3]), 4000), torch.ones(1, 4000, dtype=torch.bool))
    assert float(many.mean()) == pytest.approx(0, abs=0.05)
    assert float(many.std()) == pytest.approx(1, abs=0.05)


def test_regression_with_a_prior_is_on_what_it_leaves_with_a_coefficient_by_least_squares() -> None:
    model, known, target, member, asked = posed(SPACE)
    g = torch.Generator().manual_seed(1)
    prior = [torch.randn(2, n, generator=g, dtype=torch.float64) for n in (12, 7)]
    mean, deviation = model.predict(SPACE, known, target, member, asked, (prior[0], prior[1]))
    weights = model.weights(SPACE).tolist()
    for run in range(2):
        rows = [i for i in range(12) if member[run, i]]
        k = np.array(
            [[reference.kernel(known[run, i].tolist(), known[run, j].tolist(), weights) for j in rows] for i in rows]
        )
        q = np.array(
            [[reference.kernel(known[run, i].tolist(), a.tolist(), weights) for a in asked[run]] for i in rows]
        )
        inverse = np.linalg.inv(k + model.nugget * np.eye(len(rows)))
        z, p = target[run, rows].numpy(), prior[0][run, rows].numpy()
        centre = p.mean()
        p = p - centre
        # generalised least squares, with `certainty` pseudo-observations of the coefficient at `trust`
        c = (model.certainty * model.trust + p @ inverse @ z) / (model.certainty + p @ inverse @ p)
        left = z - c * p
        wanted = c * (prior[1][run].numpy() - centre) + q.T @ inverse @ left
        assert mean[run].tolist() == pytest.approx(wanted.tolist(), rel=1e-6, abs=1e-9)
        explained = np.clip(1 - np.einsum("in,ij,jn->n", q, inverse, q), 1e-6, None)
        spread = left @ inverse @ left / len(rows)
        assert deviation[run].tolist() == pytest.approx(np.sqrt(spread * explained).tolist(), rel=1e-5)
