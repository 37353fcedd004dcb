import math

import pytest
import torch

from ednag.diffusion.schedules import DDPM, Cosine, Levels, Linear, Schedule


@pytest.mark.parametrize("schedule", [Cosine(), Cosine(0.0), Linear(), DDPM()])
@pytest.mark.parametrize("steps", [1, 7, 100])
def test_signal_falls_from_one_to_nearly_nothing(schedule: Schedule, steps: int) -> None:
    alphas = schedule.alphas(steps)
    assert alphas.shape == (steps + 1,)
    assert alphas[0] == pytest.approx(1.0)
    assert 0 <= alphas[-1] < 1e-4
    assert (alphas.diff() < 0).all()


def test_cosine_without_offset_is_the_released_schedule() -> None:
    expected = [(1 + math.cos(math.pi * k / 99)) / 2 for k in range(100)]
    torch.testing.assert_close(Cosine(0.0).alphas(99), torch.tensor(expected, dtype=torch.float64))


def test_ddpm_agrees_with_the_product_of_its_betas() -> None:
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    product = (1 - betas).cumprod(0)
    torch.testing.assert_close(DDPM().alphas(1000)[1:].log(), product.log(), rtol=0.02, atol=2e-4)


def test_levels_are_met_exactly_and_joined_by_straight_lines() -> None:
    levels = Levels((0.2, 0.45, 0.7, 1.0))
    assert levels.alphas(4).tolist() == [1.0, 0.7, 0.45, 0.2, 0.0]
    torch.testing.assert_close(levels.alphas(8)[1::2], torch.tensor([0.85, 0.575, 0.325, 0.1]).double())


@pytest.mark.parametrize("wrong", [(), (0.5, 0.2), (0.5, 1.2), (0.0, 1.0)])
def test_levels_must_increase(wrong: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="increase within"):
        Levels(wrong)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 step"):
        Linear().alphas(0)
    with pytest.raises(ValueError, match="offset"):
        Cosine(-1.0)
    with pytest.raises(ValueError, match="first <= last"):
        DDPM(0.02, 1e-4)
