import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from ednag.core.noise import Noise
from ednag.samplers.calibration import Prior
from ednag.samplers.evidence import likeliest
from ednag.samplers.parts import normal_scores
from ednag.samplers.surrogate import GaussianProcess
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


def textbook(
    model: GaussianProcess, space: NASBench201, known: torch.Tensor, asked: torch.Tensor, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of noisy members, and of members with what is asked, of one run."""
    weights = model.weights(space).tolist()
    k = np.array([[reference.kernel(a.tolist(), b.tolist(), weights) for b in known[:, :-2]] for a in known[:, :-2]])
    q = np.array([[reference.kernel(a.tolist(), b.tolist(), weights) for b in asked[:, :-2]] for a in known[:, :-2]])
    return k + np.diag(noise), q


@pytest.mark.parametrize("space", [SPACE, Uneven()])
@pytest.mark.parametrize("declared", [False, True])
def test_regression_is_the_textbook_formula(space: NASBench201, declared: bool) -> None:
    model, known, target, member, asked = posed(space)
    nugget = torch.tensor([0.05, 0.4], dtype=torch.float64)
    noise = torch.linspace(0.1, 2, 24, dtype=torch.float64).view(2, 12) if declared else None
    mean, deviation, luck = model.predict(space, known, target, member, asked, nugget=nugget, noise=noise)
    for run, least in enumerate((0.05, 0.4)):
        rows = [i for i in range(12) if member[run, i]]
        added = 0 if noise is None else noise[run, rows].numpy()
        covariance, q = textbook(model, space, known[run, rows], asked[run], np.full(len(rows), least) + added)
        inverse = np.linalg.inv(covariance)
        z = target[run, rows].numpy()
        variance = z @ inverse @ z / len(rows)
        assert mean[run].tolist() == pytest.approx((q.T @ inverse @ z).tolist(), rel=1e-6, abs=1e-9)
        left = np.clip(1 - np.einsum("in,ij,jn->n", q, inverse, q), 1e-6, None)
        assert deviation[run].tolist() == pytest.approx(np.sqrt(variance * left).tolist(), rel=1e-5)
        assert float(luck[run]) == pytest.approx(np.sqrt(variance * least))
        bound = model.score(space, known, target, member, asked, nugget=nugget, noise=noise)[run]
        wanted = mean[run] + 2.5 * (deviation[run] ** 2 + luck[run] ** 2).sqrt()
        assert bound.tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


def test_noise_is_related_to_a_signal_that_spreads_random_architectures_by_as_much() -> None:
    model, x = GaussianProcess(), GaussianProcess().embed(SPACE, SPACE.random(Noise([3]), 400))
    covariance = model.kernel(SPACE, x[:, :200], x[:, 200:], torch.ones(1, 200, dtype=torch.bool))
    spread = 1 - float(covariance.mean())
    assert float(model.relative(torch.tensor(2.0))) == pytest.approx(2 * spread, rel=0.1)


def test_optimism_falls_with_the_number_of_members() -> None:
    model, known, target, member, asked = posed(SPACE, m=90)
    member[1] = torch.arange(90) < 70
    target = target.where(member, 0.0)
    mean, deviation, luck = model.predict(SPACE, known, target, member, asked)
    bound = model.score(SPACE, known, target, member, asked)
    beta = ((bound - mean) / (deviation**2 + luck[:, None] ** 2).sqrt())[:, 0]
    assert beta.tolist() == pytest.approx([2.5 * 50 / 90, 2.5 * 50 / 70], rel=1e-4)


def test_the_likeliest_nugget_and_scale_are_those_of_the_largest_marginal_likelihood() -> None:
    model, known, target, member, _ = posed(SPACE, m=40)
    target[0] = (known[0].double() ** 2 @ torch.linspace(-1, 1, known.shape[-1], dtype=torch.float64)).sub(0.3)
    found = torch.stack(likeliest(model, SPACE, known, target.where(member, 0.0), member), -1)
    for run in range(2):
        rows = [i for i in range(40) if member[run, i]]
        z = target[run, rows].numpy()
        smooth, _ = textbook(model, SPACE, known[run, rows], known[run, :1], np.zeros(len(rows)))

        def density(nugget: float, scale: float, smooth: np.ndarray = smooth, z: np.ndarray = z) -> float:
            covariance = smooth**scale + nugget * np.eye(len(z))
            signal = z @ np.linalg.solve(covariance, z) / len(z)
            found = multivariate_normal(np.zeros(len(z)), signal * covariance, allow_singular=False).logpdf(z)
            return float(found - math.log(nugget / 0.15) ** 2 / 2 - math.log(scale) ** 2 / 2)

        nugget = max(model.nuggets, key=lambda nugget: density(nugget, model.scales[0]))
        scale = max(model.scales, key=lambda scale: density(nugget, scale))
        assert found[run].tolist() == [nugget, scale]
    assert found[:, 0].tolist() == [0.01, 1.0]  # what the genes explain, and what nothing explains
    fixed = GaussianProcess(nugget=0.3, scales=2.0)
    assert [one.tolist() for one in likeliest(fixed, SPACE, known, target, member)] == [[0.3, 0.3], [2.0, 2.0]]


def test_a_larger_scale_is_chosen_for_what_only_near_neighbours_share() -> None:
    """A product of two genes that no sum explains, seen densely."""
    model, genes = GaussianProcess(), SPACE.random(Noise([4]), 220)
    signs = (-1.0) ** (genes[..., :5] % 2)
    target = signs.prod(-1).double()
    target = target - target.mean()
    member = torch.ones(1, 220, dtype=torch.bool)
    assert likeliest(model, SPACE, model.embed(SPACE, genes), target, member)[1].tolist() == [4.0]
    additive = (genes == 3).double().sum(-1)
    additive = additive - additive.mean()
    assert likeliest(model, SPACE, model.embed(SPACE, genes), additive, member)[1].tolist() == [1.0]


def test_a_fitted_process_predicts_as_one_that_is_asked_at_once() -> None:
    model, known, target, member, asked = posed(SPACE, m=40)
    scale = torch.tensor([1.0, 4.0], dtype=torch.float64)
    fitted = model.fit(SPACE, known, target, member, scale=scale)
    for run in range(2):
        rows = member[run].nonzero().flatten()
        smooth, across = textbook(model, SPACE, known[run, rows], asked[run], np.zeros(len(rows)))
        factor = smooth ** float(scale[run]) + model.nuggets[0] * np.eye(len(rows))
        wanted = (across ** float(scale[run])).T @ np.linalg.solve(factor, target[run, rows].numpy())
        assert fitted.predict(asked).mean[run].tolist() == pytest.approx(wanted.tolist(), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("space", [SPACE, Uneven()])
def test_scales_are_mean_exponents_between_random_architectures(space: NASBench201) -> None:
    model = GaussianProcess(gene_scale=0.3, feature_scale=0.4)
    genes = space.random(Noise([1]), 1500)
    x = model.encode(space, genes)[0].double()
    hot, weights = 6 * 5, model.weights(space).double()
    for part, scale in ((slice(0, hot), 0.3), (slice(hot, None), 0.4)):
        if x[:, part].shape[1]:
            exponent = torch.cdist(x[:750, part], x[750:, part]).square() * weights[part][0]
            assert float(exponent.mean()) == pytest.approx(scale, rel=0.05)


def test_features_can_be_left_out() -> None:
    assert GaussianProcess(features=False).encode(SPACE, torch.zeros(3, 6, dtype=torch.int64)).shape == (3, 30)
    assert GaussianProcess().encode(SPACE, torch.zeros(3, 6, dtype=torch.int64)).shape == (3, 100)


def test_exponents_are_exact_so_that_a_batch_changes_nothing() -> None:
    model, known, _, member, asked = posed(SPACE, 120, 144)
    together = model.kernel(SPACE, asked, known, member)
    weights = model.weights(SPACE).double()
    for run in range(2):
        difference = (asked[run][:, None, :-2] - known[run][None, :, :-2]).double()
        exact = (-(difference.square() * weights).sum(-1)).exp()
        some = member[run]
        assert torch.allclose(together[run][:, some], exact[:, some], rtol=1e-14, atol=0)
        assert (together[run][:, ~some] < 1e-26).all()


def test_normal_scores_are_quantiles_of_members() -> None:
    rank = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.5, 0.5, 7.0, 7.0]]).double()
    member = torch.tensor([[True] * 4, [True, True, False, False]])
    z = normal_scores(rank, member)
    quantile = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor([0.875, 0.625, 0.375, 0.125])).double()
    torch.testing.assert_close(z[0], quantile / quantile.std(correction=0), rtol=1e-6, atol=1e-6)
    assert z[1].tolist() == [0.0] * 4


def test_no_members_at_all_give_finite_scores() -> None:
    model, known, target, member, asked = posed(SPACE)
    score = model.score(SPACE, known, target * 0, member & False, asked)
    assert score.isfinite().all()


@pytest.mark.parametrize(
    "options", [{"nugget": 0}, {"nugget": ()}, {"beta": (1.0, 2.0)}, {"early": 0}, {"certainty": -1}]
)
def test_bad_settings_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        GaussianProcess(**options)


class Independent(NASBench201):
    """Each gene is drawn by itself."""

    random = SearchSpace.random


def test_a_prior_is_its_rank_among_random_architectures() -> None:
    space = Independent()
    prior = Prior(lambda genes, valid: genes[..., 0].double() ** 3, space)
    values = prior(torch.arange(5)[None, :, None].expand(1, 5, 6), torch.ones(1, 5, dtype=torch.bool))[0]
    share = torch.arange(5) / 5 + 0.1  # worse ones, and half of the equals
    shape = torch.special.ndtri(share)
    wanted = (shape - shape.mean()) / shape.std(correction=0)
    assert values.tolist() == pytest.approx(wanted.tolist(), abs=0.15)
    many = prior(space.random(Noise([3]), 4000), torch.ones(1, 4000, dtype=torch.bool))
    assert float(many.mean()) == pytest.approx(0, abs=0.05)
    assert float(many.std()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("number", [1, 3])
def test_regression_with_priors_is_on_what_they_leave_with_coefficients_by_ridge(number: int) -> None:
    model, known, target, member, asked = posed(SPACE)
    g = torch.Generator().manual_seed(1)
    prior = [torch.randn(2, n, number, generator=g, dtype=torch.float64) for n in (12, 7)]
    mean, deviation, _ = model.predict(SPACE, known, target, member, asked, (prior[0], prior[1]))
    for run in range(2):
        rows = [i for i in range(12) if member[run, i]]
        covariance, q = textbook(model, SPACE, known[run, rows], asked[run], np.full(len(rows), model.nuggets[0]))
        inverse = np.linalg.inv(covariance)
        z, p = target[run, rows].numpy(), prior[0][run, rows].numpy()
        centre = p.mean(0)
        p = p - centre
        # generalised least squares, with `certainty` P pseudo-observations of each coefficient at `trust` / P
        precision = p.T @ inverse @ p + model.certainty * number * np.eye(number)
        c = np.linalg.solve(precision, p.T @ inverse @ z + model.certainty * model.trust)
        left = z - p @ c
        wanted = (prior[1][run].numpy() - centre) @ c + q.T @ inverse @ left
        assert mean[run].tolist() == pytest.approx(wanted.tolist(), rel=1e-6, abs=1e-9)
        explained = np.clip(1 - np.einsum("in,ij,jn->n", q, inverse, q), 1e-6, None)
        spread = left @ inverse @ left / len(rows)
        assert deviation[run].tolist() == pytest.approx(np.sqrt(spread * explained).tolist(), rel=1e-5)
