import pytest
import torch
from tests.reference import categorical_steps as reference

from ednag.diffusion import categorical

CARDINALITIES = [2, 5, 3, 1]
C = torch.tensor(CARDINALITIES)


def genes(*shape: int, seed: int = 0) -> torch.Tensor:
    u = torch.rand((*shape, len(C)), generator=torch.Generator().manual_seed(seed))
    return categorical.uniform_genes(u, C)


def uniform(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 1.0])
def test_the_forward_kernel_keeps_a_gene_or_redraws_it(alpha: float) -> None:
    clean = torch.tensor([1, 3, 0, 0])
    drawn = categorical.forward(clean.expand(40000, -1), alpha, C, uniform(40000, 4))
    for gene, c in enumerate(CARDINALITIES):
        share = torch.bincount(drawn[:, gene], minlength=c) / 40000
        wanted = [alpha * (v == int(clean[gene])) + (1 - alpha) / c for v in range(c)]
        assert share.tolist() == pytest.approx(wanted, abs=0.012)


@pytest.mark.parametrize("alpha", [0.0, 0.33, 0.9])
def test_the_posterior_is_bayes_rule(alpha: float) -> None:
    members, x, g = genes(2, 7), genes(2, 5, seed=3), torch.rand(2, 7) + 0.1
    fast = categorical.posterior(x, categorical.one_hot(members, C), g.log(), alpha, C)
    for run in range(2):
        for n in range(5):
            slow = reference.posterior(x[run, n].tolist(), members[run].tolist(), g[run].tolist(), alpha, CARDINALITIES)
            assert fast[run, n].tolist() == pytest.approx(slow, rel=5e-3)  # the bonus is rounded


def test_a_member_left_out_weighs_nothing() -> None:
    log_g = torch.tensor([[0.0, -torch.inf, 0.0]])
    weights = categorical.posterior(genes(1, 4), categorical.one_hot(genes(1, 3), C), log_g, 0.5, C)
    assert (weights[..., 1] == 0).all()
    assert torch.allclose(weights.sum(-1), torch.ones(1, 4))


def test_counts_are_integers_and_marginals_of_the_posterior() -> None:
    members, weights = genes(6), torch.rand(4, 6).softmax(-1)
    counts = categorical.clean_counts(weights, categorical.one_hot(members, C), C)
    assert torch.equal(counts, counts.round())
    for n in range(4):
        for gene in range(4):
            for v in range(5):
                share = sum(float(weights[n, i]) for i in range(6) if int(members[i, gene]) == v)
                assert float(counts[n, gene, v]) / 2**20 == pytest.approx(share, abs=1e-5)


def test_draws_follow_the_counts_and_recombine() -> None:
    members = torch.tensor([[0, 4, 2, 0], [1, 1, 2, 0]])
    counts = categorical.clean_counts(torch.tensor([[0.25, 0.75]]), categorical.one_hot(members, C), C)
    drawn = categorical.draw(counts, C, uniform(20000, 4))
    assert float((drawn[:, 0] == 0).double().mean()) == pytest.approx(0.25, abs=0.015)
    assert set(drawn[:, 1].tolist()) == {1, 4}
    assert float(((drawn[:, 0] == 0) & (drawn[:, 1] == 1)).double().mean()) == pytest.approx(0.25 * 0.75, abs=0.015)


def test_draws_stay_in_range_at_the_ends_of_the_unit_interval() -> None:
    counts = categorical.clean_counts(torch.rand(8, 5).softmax(-1), categorical.one_hot(genes(5), C), C)
    for u in (0.0, 1 - 2**-24):
        drawn = categorical.draw(counts, C, torch.full((8, 4), u))
        assert ((drawn >= 0) & (drawn < C)).all()


def test_one_reverse_step_has_the_distribution_of_its_definition() -> None:
    """Enumerate: posterior, times gene-wise draws, times re-noising."""
    members, x, alpha, after = torch.tensor([[0, 0, 0, 0], [1, 2, 1, 0], [1, 2, 2, 0]]), [1, 2, 0, 0], 0.4, 0.7
    g = [0.5, 0.2, 0.3]
    n = 40000
    log_g = torch.tensor(g).log()
    hot = categorical.one_hot(members, C)
    step = categorical.reverse_step(torch.tensor(x).expand(n, -1), hot, log_g, alpha, after, C, uniform(2, n, 4))
    weights = reference.posterior(x, members.tolist(), g, alpha, CARDINALITIES)
    for gene, c in enumerate(CARDINALITIES):
        clean = [sum(w for w, m in zip(weights, members.tolist(), strict=True) if m[gene] == v) for v in range(c)]
        wanted = [after * p + (1 - after) / c for p in clean]
        assert (torch.bincount(step[:, gene], minlength=c) / n).tolist() == pytest.approx(wanted, abs=0.012)


def test_denoising_to_the_end_reproduces_a_single_good_member() -> None:
    members = genes(2, 9)
    log_g = torch.full((2, 9), -100.0)
    log_g[0, 3] = log_g[1, 5] = 0
    x = categorical.denoise(members, log_g, (0.2, 0.6, 1.0), C, uniform(7, 2, 30, 4))
    assert (x[0] == members[0, 3]).all()
    assert (x[1] == members[1, 5]).all()


def test_a_run_is_denoised_the_same_alone_and_in_a_batch() -> None:
    members, log_g, u = genes(9, 31), -torch.rand(9, 31) * 5, uniform(9, 9, 40, 4)
    together = categorical.denoise(members, log_g, (0.1, 0.3, 0.6, 0.8), C, u)
    for r in range(9):
        alone = categorical.denoise(members[r], log_g[r], (0.1, 0.3, 0.6, 0.8), C, u[:, r])
        assert torch.equal(alone, together[r])
