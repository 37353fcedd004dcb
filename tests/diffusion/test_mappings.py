import pytest
import torch
from tests.reference.diffusion_steps import piecewise

from ednag.core.archive import INFEASIBLE
from ednag.diffusion.mappings import Energy, FitnessMapping, Identity, PiecewiseLinear, Power, Rank

FITNESS = torch.tensor([[70.0, 94.0, 91.5, 94.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (Energy(2.0), (FITNESS / 2).exp()),
        (Power(3.0, 10.0), (FITNESS / 10) ** 3),
        (Identity(), FITNESS),
        (Rank(0.5), (-torch.tensor([[3.0, 0.5, 2.0, 0.5]], dtype=torch.float64) / 2).exp()),
    ],
)
def test_weights_agree_with_the_definition_up_to_a_constant(mapping: FitnessMapping, expected: torch.Tensor) -> None:
    torch.testing.assert_close(mapping(FITNESS).softmax(-1), expected / expected.sum())


@pytest.mark.parametrize("mapping", [Energy(), Energy(1.0, PiecewiseLinear()), Power(2.0), Identity(), Rank()])
def test_infeasible_members_weigh_nothing_and_scores_stay_finite(mapping: FitnessMapping) -> None:
    bad = torch.tensor([[50.0, -torch.inf, 3 * INFEASIBLE, 60.0], [-torch.inf] * 3 + [INFEASIBLE]]).double()
    weight = mapping(bad).softmax(-1)
    assert weight[0, 1] == weight[0, 2] == 0
    assert weight[0, 3] >= weight[0, 0] > 0 or weight[0, 3] > 1 - 1e-12
    torch.testing.assert_close(weight[1], torch.full((4,), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("mapping", [Energy(), Rank(), Identity(), Power(2.0)])
def test_what_is_no_member_neither_weighs_nor_counts(mapping: FitnessMapping) -> None:
    padded = torch.tensor([[50.0, 99.0, 60.0], [-torch.inf, -torch.inf, 7.0]]).double()
    member = torch.tensor([[True, False, True], [True, True, False]])
    weight = mapping(padded, member).softmax(-1)
    torch.testing.assert_close(weight[0, [0, 2]], mapping(padded[0, [0, 2]]).softmax(-1))
    assert weight.tolist()[1] == [0.5, 0.5, 0.0], "where all members failed, they weigh the same"
    assert weight[0, 1] == 0


@pytest.mark.parametrize("mapping", [Energy(0.001), Rank(), Identity(), Power(2.0)])
def test_a_constant_fitness_weighs_all_the_same(mapping: FitnessMapping) -> None:
    same = torch.zeros(2, 5, dtype=torch.float64)
    torch.testing.assert_close(mapping(same).softmax(-1), torch.full_like(same, 0.2))


def test_piecewise_stretching_agrees_with_plain_loops() -> None:
    values = torch.linspace(0, 100, 301, dtype=torch.float64)
    expected = torch.tensor([piecewise(float(v) * 1.2) for v in values], dtype=torch.float64)
    torch.testing.assert_close(PiecewiseLinear(1.2)(values), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Energy(0.0),
        lambda: Power(-1.0),
        lambda: Rank(0.0),
        lambda: PiecewiseLinear(1.0, (2.0, 1.0), (1.0, 1.0, 1.0)),
        lambda: PiecewiseLinear(1.0, (1.0, 2.0), (1.0,)),
    ],
)
def test_bad_arguments_are_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="got"):
        make()
