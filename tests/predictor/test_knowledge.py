"""Knowledge from benchmark tables: smoothing, reading, cells that two spaces share, and who may not teach."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm, rankdata, spearmanr

from ednag.benchmarks.dense import load_table
from ednag.predictor import knowledge
from ednag.predictor.knowledge import common, load_sources, teachers
from ednag.predictor.smoothing import NOISE, Smoother, class_means, normal_scores
from ednag.spaces import DARTS, NASBench201, TransNAS101Macro, TransNAS101Micro
from ednag.spaces.base import SearchSpace, find_space, gene_strings

SPACES = (NASBench201(), TransNAS101Micro(), TransNAS101Macro())


def test_normal_scores_are_quantiles_of_ranks() -> None:
    values = torch.tensor([3.0, 9.0, 1.0, 3.0, 7.0], dtype=torch.float64)
    wanted = norm.ppf((rankdata(values.numpy()) - 0.5) / 5)
    assert np.allclose(normal_scores(values), wanted, atol=1e-12)


def test_class_means() -> None:
    assert class_means(torch.tensor([1.0, 3.0, 7.0]), torch.tensor([1, 1, 0])).tolist() == [7.0, 2.0]


def test_smoothing_is_half_the_measured_and_half_a_posterior_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(30, 2, generator=generator, dtype=torch.float64)
    kernel = (-torch.cdist(points, points).square()).exp()
    trained = torch.randint(1, 4, (30,), generator=generator)
    means = torch.rand(30, generator=generator, dtype=torch.float64)
    scores = normal_scores(means).numpy()
    posterior = kernel.numpy() @ np.linalg.solve(kernel.numpy() + np.diag(NOISE / trained.numpy()), scores)
    assert np.allclose(Smoother(kernel, trained)(means), (scores + posterior) / 2, atol=1e-9)


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
def test_sources_know_every_architecture_and_agree_with_their_tables(space: SearchSpace) -> None:
    table, genes = load_table(space.name), gene_strings(space.cardinalities)
    sources, files = load_sources(space)
    assert [file.path.name for file in files] == [f"{space.name}.npz"]
    assert {source.dataset for source in sources} == {name.split("/")[0] for name in table.metrics if "/valid/" in name}
    valid = space.valid(genes)
    classes = torch.unique(space.identity(genes[valid]), return_inverse=True)[1]
    for source in sources:
        assert source.scores[valid].isfinite().all()
        assert source.scores[~valid].isnan().all()
        one = class_means(source.scores[valid], classes)
        assert torch.allclose(one[classes], source.scores[valid])  # isomorphic architectures have one score
        assert abs(float(one.mean())) < 0.01
        assert 0.8 < float(one.std()) < 1
        truth = table.metrics[table.results(source.dataset, "valid")][valid]
        assert spearmanr(one, class_means(truth, classes))[0] > 0.9


@pytest.mark.parametrize(("space", "least"), [(SPACES[0], 0.955), (SPACES[1], 0.37), (SPACES[2], 0.67)])
def test_other_data_sets_predict_a_table(space: SearchSpace, least: float) -> None:
    table, (sources, _) = load_table(space.name), load_sources(space)
    for source in sources:
        truth = table.metrics[table.results(source.dataset, "valid")]
        known = truth.isfinite()
        found = spearmanr(common([other for other in sources if other is not source])[known], truth[known])[0]
        assert found > least
        assert found == pytest.approx(source.held_out["spearman"], abs=0.01)  # what the card says


def test_cells_without_pooling_serve_both_spaces() -> None:
    cells, micro = NASBench201(), TransNAS101Micro()
    taught, _ = load_sources(micro, related=True)
    own, _ = load_sources(cells)
    assert [source.name for source in taught] == [source.name for source in own]
    genes = gene_strings(micro.cardinalities)
    for there, here in zip(taught, own, strict=True):
        assert there.scores.isfinite().all()
        assert spearmanr(there.scores, here.scores[cells.code(genes)])[0] > 0.98  # but for means over micro's classes
    back, _ = load_sources(cells, related=True)
    genes = gene_strings(cells.cardinalities)
    shared = torch.unique(cells.identity(genes[(genes != 4).all(-1)]))
    known = torch.isin(cells.identity(genes), shared)  # also pooling on an edge that nothing reaches
    assert len(back) == 7
    assert all(bool((source.scores.isfinite() == known).all()) for source in back)
    assert load_sources(TransNAS101Macro(), related=True)[0] == []


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
def test_the_target_is_never_its_own_teacher(space: SearchSpace) -> None:
    """By its name, however it is written; and by what its table holds, whatever it is called."""
    table, (sources, _) = load_table(space.name), load_sources(space)
    for source in sources:
        others = [other.name for other in sources if other is not source]
        names = [source.dataset, source.dataset.upper(), source.dataset.replace("-", "_").title()]
        for name in names:
            assert [one.name for one in teachers(sources, [name], "", {})] == others
        held = {name: values for name, values in table.metrics.items() if name.startswith(f"{source.dataset}/")}
        for split in ("valid", "test"):
            values = held[table.results(source.dataset, split)]
            for disguised in (
                values,
                values.exp() if values.nan_to_num().max() < 2 else values.square(),
                values.round(decimals=3),
            ):
                assert [one.name for one in teachers(sources, ["mine"], space.name, {"x": disguised})] == others
        assert teachers(sources, ["mine"], "another space", held) == sources


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
def test_no_knowledge_finds_a_table_whose_labels_are_permuted(space: SearchSpace) -> None:
    """Then nothing of it is left out, and what is taught has nothing to do with it."""
    table, (sources, _) = load_table(space.name), load_sources(space)
    generator = torch.Generator().manual_seed(1)
    for source in sources:
        values = table.metrics[table.results(source.dataset, "valid")]
        known = values.isfinite().nonzero().flatten()
        permuted = values.clone()
        permuted[known] = values[known[torch.randperm(len(known), generator=generator)]]
        taught = teachers(sources, ["mine"], space.name, {"x": permuted})
        assert taught == sources
        assert abs(spearmanr(common(taught)[known], permuted[known])[0]) < 4 / len(known) ** 0.5


def test_loading_and_scoring_every_cell_takes_less_than_a_second() -> None:
    begun = time.process_time()
    assert common(load_sources(NASBench201())[0]).isfinite().all()
    assert time.process_time() - begun < 1


def test_what_ships_is_small_and_listed_with_its_tables() -> None:
    config = json.loads((knowledge.KNOWLEDGE / "sources.json").read_text())
    assert sum(path.stat().st_size for path in knowledge.KNOWLEDGE.iterdir()) < 1e6
    for name, digest in config["tables"].items():
        file = load_table(name).file
        assert file is not None
        assert file.sha256 == digest  # made of the tables that ship
        assert find_space(name)


def test_damaged_or_foreign_knowledge_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"no benchmark table teaches about darts, only about nasbench201, .* --fitness"
    ):
        load_sources(DARTS())
    monkeypatch.setattr(knowledge, "KNOWLEDGE", tmp_path)
    with pytest.raises(ValueError, match="does not list the shipped knowledge"):
        load_sources(NASBench201())
    (tmp_path / "sources.json").write_text('{"format": 0, "files": {}}')
    with pytest.raises(ValueError, match="of format 0, this program reads format 1"):
        load_sources(NASBench201())
    (tmp_path / "sources.json").write_text('{"format": 1, "files": {"nasbench201": "00"}}')
    (tmp_path / "nasbench201.npz").write_bytes(b"cut")
    with pytest.raises(ValueError, match="missing or damaged"):
        load_sources(NASBench201())
