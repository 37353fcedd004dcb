import numpy as np
import torch
from tests.reference import diffusion_steps as plain

from ednag.diffusion.gaussian import clean_estimate, ddim_step


def test_clean_estimate_agrees_with_plain_loops() -> None:
    rng = np.random.default_rng(0)
    x, members, g = rng.normal(size=(5, 4)), rng.normal(size=(7, 4)), rng.uniform(0.1, 2, size=7)
    for alpha in (0.0, 0.3, 0.8):
        fast = clean_estimate(torch.from_numpy(x), torch.from_numpy(members), torch.from_numpy(g).log(), alpha)
        np.testing.assert_allclose(fast.numpy(), plain.clean_estimate(x, members, g, alpha), rtol=1e-9)


def test_clean_estimate_survives_where_the_density_underflows() -> None:
    members = torch.randn(3, 264, generator=torch.Generator().manual_seed(0)) * 5
    out = clean_estimate(members, members, torch.zeros(3), 0.999)
    torch.testing.assert_close(out, members)  # every sample is by far nearest to its own trace


def test_members_without_weight_are_left_out() -> None:
    members = torch.tensor([[0.0, 0.0], [10.0, 10.0]])
    log_g = torch.tensor([0.0, -torch.inf])
    out = clean_estimate(members, members, log_g, 0.5)
    torch.testing.assert_close(out, torch.zeros(2, 2))


def test_ddim_step_agrees_with_plain_loops() -> None:
    rng = np.random.default_rng(1)
    x, clean, noise = rng.normal(size=(3, 2, 5, 4))[:, 0], rng.normal(size=(3, 5, 4)), rng.normal(size=(3, 5, 4))
    x = np.broadcast_to(x[:, None, 0], clean.shape).copy()
    for alpha, alpha_next, s in ((0.0, 0.1, 0.8), (0.4, 0.5, 0.0), (0.9, 1.0, 1.0)):
        fast = ddim_step(*map(torch.from_numpy, (x, clean)), alpha, alpha_next, torch.from_numpy(noise), s)
        np.testing.assert_allclose(fast.numpy(), plain.ddim_step(x, clean, alpha, alpha_next, noise, s), rtol=1e-9)


def test_the_last_step_lands_on_the_clean_estimate() -> None:
    x, clean, noise = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(2))[:, None].unbind(0)
    torch.testing.assert_close(ddim_step(x, clean, 0.9, 1.0, noise, 0.8), clean)
