import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from ednag.core.noise import Noise
from ednag.samplers.calibration import Prior
from ednag.samplers.evidence import Belief, likeliest
from ednag.samplers.kernel import Kernel
from ednag.samplers.parts import normal_scores
from ednag.samplers.surrogate import GaussianProcess, Prediction
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
    known, asked = (model.kernel.embed(space, space.random(noise, number)) for number in (m, n))
    member = torch.ones(2, m, dtype=torch.bool)
    member[1, 5:8] = False
    target = torch.randn(2, m, generator=torch.Generator().manual_seed(0), dtype=torch.float64).where(member, 0.0)
    return model, known, target, member, asked


def textbook(
    model: GaussianProcess,
    space: NASBench201,
    known: torch.Tensor,
    asked: torch.Tensor,
    noise: np.ndarray,
    factors: tuple[float, float] = (1, 1),
) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of noisy members, and of members with what is asked, of one run."""
    hot = space.num_genes * max(space.cardinalities)
    weights = [factors[place >= hot] * one for place, one in enumerate(model.kernel.weights(space).tolist())]
    k = np.array([[reference.kernel(a.tolist(), b.tolist(), weights) for b in known[:, :-3]] for a in known[:, :-3]])
    q = np.array([[reference.kernel(a.tolist(), b.tolist(), weights) for b in asked[:, :-3]] for a in known[:, :-3]])
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
        bound = model.bound(Prediction(mean, deviation, luck), member)[run]
        wanted = mean[run] + 2.5 * (deviation[run] ** 2 + luck[run] ** 2).sqrt()
        assert bound.tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


def test_noise_is_related_to_a_signal_that_spreads_random_architectures_by_as_much() -> None:
    model, x = GaussianProcess(), Kernel().embed(SPACE, SPACE.random(Noise([3]), 400))
    covariance = model.kernel.between(SPACE, x[:, :200], x[:, 200:], torch.ones(1, 200, dtype=torch.bool))
    spread = 1 - float(covariance.mean())
    assert float(model.relative(torch.tensor(2.0))) == pytest.approx(2 * spread, rel=0.1)


def test_optimism_falls_with_the_number_of_members() -> None:
    model, known, target, member, asked = posed(SPACE, m=90)
    member[1] = torch.arange(90) < 70
    target = target.where(member, 0.0)
    mean, deviation, luck = model.predict(SPACE, known, target, member, asked)
    bound = model.bound(Prediction(mean, deviation, luck), member)
    beta = ((bound - mean) / (deviation**2 + luck[:, None] ** 2).sqrt())[:, 0]
    assert beta.tolist() == pytest.approx([2.5 * 50 / 90, 2.5 * 50 / 70], rel=1e-4)


def test_nuggets_and_kernels_of_each_kind_are_the_likeliest() -> None:
    model, known, target, member, _ = posed(SPACE, m=40)
    target[0] = (known[0].double() ** 2 @ torch.linspace(-1, 1, known.shape[-1], dtype=torch.float64)).sub(0.3)
    found, likely = likeliest(model, SPACE, known, target.where(member, 0.0), member)
    for run in range(2):
        rows = [i for i in range(40) if member[run, i]]
        z = target[run, rows].numpy()

        def density(
            nugget: float, factors: tuple[int, int], run: int = run, rows: list[int] = rows, z: np.ndarray = z
        ) -> float:
            covariance, _ = textbook(
                model, SPACE, known[run, rows], known[run, :1], np.full(len(rows), nugget), factors
            )
            signal = z @ np.linalg.solve(covariance, z) / len(z)
            likely = multivariate_normal(np.zeros(len(z)), signal * covariance, allow_singular=False).logpdf(z)
            usual = [math.log(max(one, 0.25)) ** 2 / 4 for one in factors]
            return float(likely - math.log(nugget / 0.15) ** 2 / 2 - sum(usual))

        evidence: list[float] = []
        for kind, kernels in enumerate(model.kinds_in(SPACE)):
            tried = {pair: density(*pair) for pair in itertools.product(model.nuggets, kernels)}
            nugget, factors = max(tried, key=tried.__getitem__)
            assert float(found.nugget[run, kind]) == nugget
            assert found.factors[run, kind].tolist() == list(factors)
            evidence.append(tried[nugget, factors])
        alone, best = found.alone(likely.argmax(1)), int(np.argmax(evidence))
        differences = likely[run] - likely[run, 0]
        assert differences.tolist() == pytest.approx([one - evidence[0] for one in evidence], abs=1e-3)
        assert alone.nugget[run].tolist() == [float(found.nugget[run, best])]
        assert alone.factors[run].tolist() == [found.factors[run, best].tolist()]
    assert float(found.nugget[0, 0]) == 0.01  # what the genes explain
    fixed, _ = likeliest(GaussianProcess(nugget=0.3, kernels=[(2, 2)]), SPACE, known, target, member)
    assert [one.tolist() for one in fixed] == [[[0.3]] * 2, [[[2.0, 2.0]]] * 2]


def test_a_more_local_kernel_is_chosen_for_what_only_near_neighbours_share() -> None:
    """A product of two genes that no sum explains, seen densely."""
    model, genes = GaussianProcess(features=False), SPACE.random(Noise([4]), 220)
    known, member = model.kernel.embed(SPACE, genes), torch.ones(1, 220, dtype=torch.bool)
    signs = (-1.0) ** (genes[..., :2] % 2)
    for target, factor in ((signs.prod(-1).double(), 4.0), ((genes == 3).double().sum(-1), 1.0)):
        centred = target - target.mean()
        assert float(likeliest(model, SPACE, known, centred, member)[0].factors[0, 0].max()) == factor


@pytest.mark.parametrize(("part", "other"), [(0, 1), (1, 0)])
def test_a_part_of_the_kernel_that_says_nothing_is_left_out(part: int, other: int) -> None:
    """Scores that one part of the description gives alone, in random directions of the kernel's own prior."""
    model, genes = GaussianProcess(), SPACE.random(Noise([9]), 150)
    known, member = model.kernel.embed(SPACE, genes), torch.ones(1, 150, dtype=torch.bool)
    alone = 4.0 * torch.eye(2)[part][None]
    smooth = model.kernel.between(SPACE, known, known, member, alone)[0] + 1e-6 * torch.eye(150).double()
    drawn = torch.randn(150, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = (torch.linalg.cholesky(smooth) @ drawn)[None]
    every, evidence = likeliest(model, SPACE, known, target - target.mean(), member)
    belief = every.alone(evidence.argmax(1))
    assert belief.factors[0, 0, part] > 0
    assert belief.factors[0, 0, other] == 0


def test_kinds_of_kernels_are_what_they_look_at() -> None:
    model = GaussianProcess()
    assert model.kinds_in(SPACE) == (((1, 1), (4, 4)), ((0, 1), (0, 4)), ((1, 0), (4, 0)))
    assert model.kinds_in(Uneven()) == (((1, 1), (4, 4)),)
    assert GaussianProcess(features=False).kinds_in(SPACE) == (((1, 1), (4, 4)),)


def test_processes_of_a_run_are_averaged_as_a_mixture() -> None:
    model, known, target, member, asked = posed(SPACE, m=30)
    nugget, factors = torch.tensor([[0.05, 0.4], [0.15, 1.0]]), torch.tensor([[[1, 1], [0, 4]], [[4, 4], [1, 0]]])
    belief = Belief(nugget.double(), factors.double())
    noise = torch.zeros_like(target)
    mean, deviation, luck = belief.fit(model, SPACE, known, target, member, noise).predict(asked)
    of = [
        model.fit(SPACE, known, target, member, None, belief.nugget[:, k], noise, belief.factors[:, k]).predict(asked)
        for k in range(2)
    ]
    torch.testing.assert_close(mean, (of[0].mean + of[1].mean) / 2)
    second = [one.mean**2 + one.deviation**2 for one in of]
    torch.testing.assert_close(deviation**2, (second[0] + second[1]) / 2 - mean**2)
    torch.testing.assert_close(luck**2, (of[0].luck ** 2 + of[1].luck ** 2) / 2)


def test_a_fitted_process_predicts_as_one_that_is_asked_at_once() -> None:
    model, known, target, member, asked = posed(SPACE, m=40)
    factors = [(1, 4), (4, 0)]
    fitted = model.fit(SPACE, known, target, member, factors=torch.tensor(factors).double())
    for run in range(2):
        rows = member[run].nonzero().flatten()
        noise = np.full(len(rows), model.nuggets[0])
        factor, across = textbook(model, SPACE, known[run, rows], asked[run], noise, factors[run])
        wanted = across.T @ np.linalg.solve(factor, target[run, rows].numpy())
        assert fitted.predict(asked).mean[run].tolist() == pytest.approx(wanted.tolist(), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("space", [SPACE, Uneven()])
def test_scales_are_mean_exponents_between_random_architectures(space: NASBench201) -> None:
    model = Kernel(gene_scale=0.3, feature_scale=0.4)
    genes = space.random(Noise([1]), 1500)
    x = model.encode(space, genes)[0].double()
    hot, weights = 6 * 5, model.weights(space).double()
    for part, scale in ((slice(0, hot), 0.3), (slice(hot, None), 0.4)):
        if x[:, part].shape[1]:
            exponent = torch.cdist(x[:750, part], x[750:, part]).square() * weights[part][0]
            assert float(exponent.mean()) == pytest.approx(scale, rel=0.05)


def test_features_can_be_left_out() -> None:
    assert Kernel(features=False).encode(SPACE, torch.zeros(3, 6, dtype=torch.int64)).shape == (3, 30)
    assert Kernel().encode(SPACE, torch.zeros(3, 6, dtype=torch.int64)).shape == (3, 100)


def test_exponents_are_exact_so_that_a_batch_changes_nothing() -> None:
    model, known, _, member, asked = posed(SPACE, 120, 144)
    together = model.kernel.between(SPACE, asked, known, member)
    weights = model.kernel.weights(SPACE).double()
    for run in range(2):
        difference = (asked[run][:, None, :-3] - known[run][None, :, :-3]).double()
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
    nobody = member & False
    found = model.predict(SPACE, known, target * 0, nobody, asked)
    assert model.bound(found, nobody).isfinite().all()


@pytest.mark.parametrize(
    "options",
    [
        {"nugget": 0},
        {"nugget": ()},
        {"beta": (1.0, 2.0)},
        {"early": 0},
        {"certainty": -1},
        {"kernels": [(3, 1)]},
        {"kernels": [(0, 1)]},
    ],
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
