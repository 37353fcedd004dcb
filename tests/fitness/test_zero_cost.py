"""Zero-cost fitness: fixed numbers per architecture, whatever surrounds the evaluation."""

import math
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ednag.core.noise import Noise
from ednag.core.storage import load_state, save_state
from ednag.data.sampling import image_batch
from ednag.fitness import zero_cost
from ednag.fitness.proxies import PROXIES, measure
from ednag.fitness.zero_cost import ZeroCostFitness, rank_among
from ednag.spaces import NASBench201, PretrainedLite, SearchSpace, TransNAS101Macro
from ednag.spaces.building import architecture_seed, representative

SPACE = NASBench201()
SMALL = {"channels": 4, "cells": 1}
CELLS = torch.tensor(
    [[3, 2, 4, 1, 0, 3], [2, 3, 3, 4, 1, 2], [1, 1, 1, 1, 1, 1], [3, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0]]
)


class Pictures(pl.LightningDataModule):
    """Random 8-bit images, shuffled by the global random state; counts how often it is prepared."""

    num_classes = 7

    def __init__(self, count: int = 20, batch_size: int = 6) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (count, 3, 8, 8), generator=random, dtype=torch.uint8)
        self.labels = torch.randint(0, 7, (count,), generator=random)
        self.batch_size = batch_size
        self.prepared: list[str] = []

    def prepare_data(self) -> None:
        self.prepared.append("data")

    def setup(self, stage: str) -> None:
        self.prepared.append(stage)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(self.images, self.labels), self.batch_size, shuffle=True)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        return batch[0] / 127.5 - 1, batch[1]


def fitness(*proxies: str, data: pl.LightningDataModule | None = None, **options: object) -> ZeroCostFitness:
    out = ZeroCostFitness(proxies, **{"batch_size": 8, "network": SMALL, "reference_size": 3, **options})
    out.setup(SPACE, Pictures() if data is None else data)
    return out


def everyone(genes: Tensor) -> Tensor:
    return torch.ones(genes.shape[:-1], dtype=torch.bool)


def scores(of: ZeroCostFitness, genes: Tensor = CELLS) -> list[float]:
    return of(genes, everyone(genes)).tolist()


def test_images_are_the_same_each_time_and_prepared() -> None:
    torch.manual_seed(1)
    data = Pictures()
    with torch.inference_mode():
        first = image_batch(data, 8)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = image_batch(Pictures(), 8)
    assert torch.equal(state, torch.get_rng_state())
    assert data.prepared == ["data", "fit"]
    assert not first.images.is_inference()
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    assert (first.shape, first.num_classes, len(first.labels)) == ((3, 8, 8), 7, 8)
    whole = data.images / 127.5 - 1
    for image, label in zip(first.images, first.labels, strict=True):
        place = (whole == image).flatten(1).all(1).nonzero().flatten()
        assert data.labels[place].tolist() == [label]
    assert len(image_batch(data, 1000).images) == 20


@pytest.mark.parametrize("name", PROXIES)
def test_one_proxy_scores_by_its_own_value(name: str) -> None:
    found = fitness(name)
    batch = image_batch(Pictures(), 8)
    with torch.random.fork_rng():
        seed = architecture_seed(0, int(SPACE.identity(CELLS[0])))
        torch.manual_seed(seed)
        network = SPACE.build(representative(SPACE, CELLS[:1])[0], 7, **SMALL)
    generator = torch.Generator().manual_seed(seed)
    expected = measure(network, [name], batch.images, batch.labels, generator)[name]
    assert found.name == name
    assert scores(found)[0] == pytest.approx(expected, rel=1e-3)
    assert found.details(CELLS)[name][0] == scores(found)[0]


@pytest.mark.slow
def test_scores_do_not_depend_on_what_surrounds_them() -> None:
    """Order, company, mode, random state, isomorphic twins: the same number to the last bit."""
    names = ("snip", "zen")
    expected = scores(fitness(*names))
    backwards = scores(fitness(*names), CELLS.flip(0))[::-1]
    torch.manual_seed(77)
    with torch.inference_mode():
        inside = scores(fitness(*names), CELLS.clone())
    alone = fitness(*names)
    one_by_one = [scores(alone, cell[None])[0] for cell in (CELLS[3], CELLS[0])]
    assert expected == backwards == inside
    assert one_by_one == [expected[3], expected[0]]


def test_isomorphic_cells_share_the_score_of_their_class() -> None:
    """A convolution and a skip, a skip and a convolution, and the first with a convolution that leads nowhere."""
    twins = torch.tensor([[3, 0, 0, 0, 1, 0], [1, 0, 0, 0, 3, 0], [3, 0, 3, 0, 1, 0]])
    assert SPACE.identity(twins).unique().numel() == 1
    found = [scores(fitness("synflow"), twin[None])[0] for twin in twins]
    assert len(set(found)) == 1
    together = fitness("synflow")
    scores(together, twins)
    assert (together.evaluations, together.lookups) == (1, 3)


def test_representatives_are_in_the_class_they_stand_for() -> None:
    every = torch.cartesian_prod(*[torch.arange(5)] * 6)
    named = representative(SPACE, every)
    assert torch.equal(SPACE.identity(named), SPACE.identity(every))
    assert len(named.unique(dim=0)) == len(SPACE.identity(every).unique())


def test_spaces_with_another_identity_stand_for_themselves() -> None:
    class Hashed(NASBench201):
        def identity(self, genes: Tensor) -> Tensor:
            return 7919 * self.code(genes) + 5

    assert torch.equal(representative(Hashed(), CELLS), CELLS)


def test_the_seed_changes_the_networks() -> None:
    assert scores(fitness("naswot", seed=1))[0] != scores(fitness("naswot"))[0]


def test_the_global_random_state_is_left_alone() -> None:
    state = torch.get_rng_state()
    scores(fitness(*PROXIES), CELLS[:2])
    assert torch.equal(state, torch.get_rng_state())


def test_an_ensemble_ranks_among_a_fixed_sample() -> None:
    found = fitness("params", "naswot", reference_size=12)
    totals = scores(found, CELLS[:4])
    rng_sample = found._sample_reference()
    assert len(SPACE.identity(rng_sample).unique()) == 12
    raw = found.details(torch.cat([rng_sample, CELLS[:4]]))
    first, second = (rank_among(raw[name][:12], raw[name][12:]) for name in ("params", "naswot"))
    assert totals == pytest.approx((first * second).sqrt().tolist())
    assert all(0 < value < 1 for value in totals)
    assert found.name == "rank(params, naswot)"
    assert found.evaluations == 4, "the reference sample is not the run's"


def test_dead_cells_fail_and_nothing_else_does() -> None:
    for names in (("synflow",), ("zico", "params")):
        found = scores(fitness(*names))
        assert found[4] == -math.inf
        assert all(math.isfinite(value) for value in found[:4])
    assert scores(fitness("snip"))[4] == min(scores(fitness("snip")))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_the_worst(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """An overflow (``inf``) must not win."""

    def broken(network: nn.Module, names: list[str], *_: object) -> dict[str, float]:
        count = float(sum(p.numel() for p in network.parameters()))
        return dict.fromkeys(names, value if count > 15_000 else count)

    monkeypatch.setattr(zero_cost, "measure", broken)
    for names in (("synflow",), ("synflow", "naswot")):
        found = scores(fitness(*names, reference_size=20))
        assert found[3] == -math.inf
        assert math.isfinite(found[2])


def test_a_restored_fitness_measures_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fitness("synflow", "params")
    expected = scores(first)
    save_state(tmp_path / "state.pt", first.state_dict())
    second = fitness("synflow", "params")
    second.load_state_dict(load_state(tmp_path / "state.pt"))
    other = torch.tensor([[2, 2, 2, 1, 1, 4]])
    fresh = scores(first, other)
    assert scores(second, other) == fresh, "the reference sample was not restored"
    monkeypatch.setattr(zero_cost, "measure", None)
    assert scores(second) == expected
    assert torch.equal(second.details(CELLS)["params"], first.details(CELLS)["params"])
    with pytest.raises(ValueError, match="resume with the same proxies"):
        fitness("params").load_state_dict(first.state_dict())


def test_details_of_what_was_never_scored_are_not_a_number() -> None:
    found = fitness("params")
    assert found.details(CELLS)["params"].isnan().all()
    assert found.details(CELLS[:0])["params"].shape == (0,)


def test_proxies_without_data_need_none() -> None:
    found = ZeroCostFitness(["synflow", "zen", "params", "flops"], network=SMALL, reference_size=3, num_classes=3)
    found.setup(SPACE)
    assert all(math.isfinite(value) for value in scores(found)[:4])
    assert found.details(CELLS)["params"][3] == sum(p.numel() for p in SPACE.build(CELLS[3], 3, **SMALL).parameters())


@pytest.mark.parametrize(
    ("space", "network"), [(SPACE, {"channels": 4, "cells": 1}), (PretrainedLite(), {}), (TransNAS101Macro(), {})]
)
def test_costs_are_counted_without_building_and_are_those_of_built_networks(
    space: SearchSpace, network: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    genes = space.random(Noise([3]), 3)[0]
    built, counted = (ZeroCostFitness(["flops", "params"], network=network, num_classes=7) for _ in range(2))
    with monkeypatch.context() as patched:
        patched.setattr(zero_cost, "count_in_closed_form", lambda *of: None)
        built.setup(space)
        wanted = built._measure(genes)
    monkeypatch.setattr(zero_cost, "build_network", lambda *of: pytest.fail("a network was built"))
    counted.setup(space)
    assert counted._measure(genes).tolist() == wanted.tolist()
    assert counted.details(genes)["params"].tolist() == wanted[:, 1].tolist()
    assert (wanted > 0).any()


@pytest.mark.parametrize("size", [2, 5, 40])
def test_ranks_agree_with_a_plain_loop(size: int) -> None:
    rng = np.random.default_rng(size)
    reference = rng.normal(size=size)
    values = rng.uniform(reference.min(), reference.max(), 50)

    def rank(value: float) -> float:
        ordered = sorted(reference)
        i = max(k for k in range(size - 1) if ordered[k] <= value)
        return (i + 1 + (value - ordered[i]) / (ordered[i + 1] - ordered[i])) / (size + 1)

    found = rank_among(torch.from_numpy(reference), torch.from_numpy(values))
    assert found.numpy() == pytest.approx([rank(value) for value in values], rel=1e-9)


@pytest.mark.parametrize("reference", [[1.0, 2, 2, 2, 5], [3.0, 3, 3], [-math.inf, math.nan, 4, 4.5], [1e80, 1e81]])
def test_ranks_increase_beyond_the_ends(reference: list[float]) -> None:
    finite = [value for value in reference if math.isfinite(value)]
    steps = [max(abs(finite[-1]), 1) * 10.0**k for k in range(-3, 6)]
    values = [finite[0] - s for s in steps[::-1]] + sorted({*finite}) + [finite[-1] + s for s in steps]
    found = rank_among(torch.tensor(reference, dtype=torch.float64), torch.tensor(values, dtype=torch.float64))
    assert (found.diff() > 0).all(), found
    assert ((found > 0) & (found < 1)).all()
    ends = rank_among(torch.tensor(reference, dtype=torch.float64), torch.tensor([-math.inf, math.nan, math.inf]))
    assert (ends[0], ends[2]) == (0, 1)
    assert ends[1].isnan()


def test_tied_and_failed_references_take_their_places() -> None:
    ranks = rank_among(torch.tensor([-math.inf, 2.0, 2.0, 5.0]), torch.tensor([2.0, 5.0, 3.5]))
    assert ranks.tolist() == pytest.approx([2.5 / 5, 4 / 5, (2.5 + 4) / 2 / 5])


def test_errors() -> None:
    for wrong in (["swap"], [], "snip"):
        with pytest.raises(ValueError, match="proxies must be one or more of params"):
            ZeroCostFitness(wrong)
    with pytest.raises(ValueError, match="batch_size must be >= 4"):
        ZeroCostFitness(["snip"], batch_size=3)
    with pytest.raises(ValueError, match="no option 'width'"):
        fitness("params", network={"width": 3})
    with pytest.raises(ValueError, match="snip, naswot need images of the task: give a data module"):
        ZeroCostFitness(["snip", "params", "naswot"]).setup(SPACE)
    with pytest.raises(ValueError, match="at least 4 images, Pictures has 3"):
        fitness("snip", data=Pictures(count=3))
    nameless = Pictures()
    nameless.num_classes = None
    with pytest.raises(ValueError, match="must have num_classes"):
        fitness("snip", data=nameless)
    with pytest.raises(ValueError, match="could not draw 7000 distinct"):
        fitness("params", "flops", reference_size=7000).score(torch.zeros(1, 6, dtype=torch.int64))
    with pytest.raises(ValueError, match="no architecture of the reference sample"):
        rank_among(torch.tensor([-math.inf]), torch.tensor([1.0]))
