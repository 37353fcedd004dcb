"""Knowledge of other data sets as a fitness."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr

from ednag.benchmarks.dense import load_table
from ednag.core.fingerprint import fingerprint
from ednag.core.inputs import input_files
from ednag.core.noise import Noise
from ednag.data import CIFAR10, Digits, ImageFolder
from ednag.fitness import BenchmarkFitness, KnowledgeFitness, MetaFitness, ZeroCostFitness
from ednag.fitness.choice import default_fitness
from ednag.predictor.budgets import BENCHMARK, PlannedTraining, TrainingBudget
from ednag.predictor.foresight import foresee, predictor_of, weight_of
from ednag.predictor.smoothing import class_means
from ednag.spaces import DARTS, NASBench201, TransNAS101Macro, TransNAS101Micro
from ednag.spaces.base import gene_strings

SPACE = NASBench201()


def standard(scores: torch.Tensor) -> torch.Tensor:
    """Scores of mean 0 and variance 1."""
    return (scores - scores.mean()) / scores.std(correction=0)


def names(fitness: KnowledgeFitness) -> list[str]:
    """Data sets that taught, from what is printed."""
    line = next(line for line in fitness.notes() if line.startswith("sources: ")).split(";")[0]
    return [name.split("/")[1] for name in line.removeprefix("sources: ").split(", ")]


def test_scores_are_the_mean_of_the_sources_and_each_speaks_for_itself() -> None:
    fitness = KnowledgeFitness(["cifar10", "nasbench201/cifar100"])
    fitness.setup(SPACE)
    genes = SPACE.random(Noise([0, 1]), 50)
    valid = torch.ones(2, 50, dtype=torch.bool)
    valid[0, 0] = False
    scores = fitness(genes, valid)
    parts = torch.stack([part(genes, valid) for part in fitness.parts()])
    assert parts.shape == (2, 2, 50)
    assert torch.allclose(scores, parts.mean(0))
    assert scores[0, 0] == -torch.inf
    spread = fitness.details(genes[1])["disagreement"]
    assert torch.allclose(spread, parts[:, 1].std(0, correction=0))
    assert names(fitness) == ["cifar10", "cifar100"]


def test_the_target_of_a_generation_is_left_out_by_name_and_by_content() -> None:
    target = BenchmarkFitness("nasbench201", "cifar100")
    fitness = KnowledgeFitness()
    fitness.unlearn(target)
    fitness.setup(SPACE)
    assert names(fitness) == ["cifar10", "imagenet16-120"]
    assert any("left out as the target's own: nasbench201/cifar100" in line for line in fitness.notes())

    target.table = replace(target.table, metrics=exchanged(target.table.metrics))  # as if someone had mislabelled it
    fitness = KnowledgeFitness()
    fitness.unlearn(target)
    fitness.setup(SPACE)
    assert names(fitness) == ["imagenet16-120"]  # neither the one of that name nor the one of that content


def exchanged(metrics: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Metrics of a table whose data sets CIFAR-10 and CIFAR-100 are called by each other's name."""
    other = {"cifar10": "cifar100", "cifar100": "cifar10"}
    return {"/".join([other.get(n.split("/")[0], n.split("/")[0]), *n.split("/")[1:]]): v for n, v in metrics.items()}


def test_images_say_by_their_name_whose_knowledge_to_leave_out(tmp_path: Path) -> None:
    for data, missing in (
        (CIFAR10(tmp_path), {"cifar10"}),
        (ImageFolder(tmp_path / "ImageNet16-120"), {"imagenet16-120"}),
        (Digits(), set()),
    ):
        fitness = KnowledgeFitness()
        fitness.setup(SPACE, data)
        assert set(names(fitness)) == {"cifar10", "cifar100", "imagenet16-120"} - missing


def test_a_related_space_teaches_if_only_the_target_is_left() -> None:
    fitness = KnowledgeFitness(exclude=["cifar10", "CIFAR-100", "ImageNet16-120"])
    fitness.setup(SPACE)
    assert len(names(fitness)) == 7
    assert fitness.partial  # cells with pooling are unknown, not bad
    genes = torch.tensor([[3, 3, 3, 3, 3, 3], [4, 3, 3, 3, 3, 3]])
    scores = fitness(genes, torch.ones(2, dtype=torch.bool))
    assert scores[0] > 0
    assert scores[1] == -torch.inf
    fitness = KnowledgeFitness(["cifar10", "jigsaw"])
    fitness.setup(TransNAS101Micro())
    assert names(fitness) == ["cifar10", "jigsaw"]
    assert not fitness.partial


@pytest.mark.parametrize(
    ("fitness", "space", "message"),
    [
        (KnowledgeFitness(["cifar100"]), SPACE, "nasbench201/cifar100 would teach about its own data set"),
        (KnowledgeFitness(["svhn"]), SPACE, "no source 'svhn' can serve nasbench201; allowed: nasbench201/cifar10, "),
        (KnowledgeFitness(["transnas101_macro/jigsaw"]), SPACE, "no source 'transnas101_macro/jigsaw' can serve"),
        (KnowledgeFitness(["cifar10"]), TransNAS101Macro(), "no source 'cifar10' can serve transnas101_macro"),
        (KnowledgeFitness(), DARTS(), "no benchmark table teaches about darts"),
    ],
)
def test_a_wrong_source_gets_one_sentence(fitness: KnowledgeFitness, space: NASBench201, message: str) -> None:
    fitness.unlearn(BenchmarkFitness("nasbench201", "cifar100"))
    with pytest.raises(ValueError, match=message):
        fitness.setup(space)


def test_a_state_is_resumed_with_the_same_sources_only() -> None:
    fitness = KnowledgeFitness()
    before = fingerprint(fitness)
    fitness.setup(SPACE)
    fitness(torch.tensor([[3, 3, 3, 3, 3, 3]]), torch.ones(1, dtype=torch.bool))
    assert fingerprint(fitness) == before  # setting up changes no setting
    same, other = KnowledgeFitness(), KnowledgeFitness(exclude=["cifar10"])
    for one in (same, other):
        one.setup(SPACE)
    same.load_state_dict(fitness.state_dict())
    assert same.evaluations == 1
    with pytest.raises(ValueError, match="the saved scores are of the sources nasbench201/cifar10"):
        other.load_state_dict(fitness.state_dict())
    assert [Path(path).name for path in input_files(fitness)] == ["nasbench201.npz"]


def test_without_a_fitness_a_space_with_tables_is_scored_by_them_and_others_by_proxies(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert isinstance(default_fitness(SPACE, Digits()), KnowledgeFitness)
    assert isinstance(default_fitness(TransNAS101Macro(), None), KnowledgeFitness)
    assert not caplog.messages
    assert isinstance(default_fitness(DARTS(), Digits()), ZeroCostFitness)
    assert len(caplog.messages) == 1
    assert "no benchmark table teaches about darts" in caplog.text
    with pytest.raises(ValueError, match="generate needs a score to maximise"):
        default_fitness(DARTS(), None)


def test_for_a_short_training_the_predictor_that_knows_short_ones_is_asked_too() -> None:
    data, plan = Digits(batch_size=64), PlannedTraining(epochs=5)
    tables, both, alone = KnowledgeFitness(), KnowledgeFitness(budget=plan), MetaFitness(budget=plan)
    genes = gene_strings(SPACE.cardinalities)
    valid = SPACE.valid(genes)
    for fitness in (tables, both, alone):
        fitness.setup(SPACE, data)
    _, place = SPACE.identity(genes[valid]).unique(return_inverse=True)
    expected = standard(class_means(alone.score(genes[valid]), place))[place]
    assert torch.allclose(both(genes, valid)[valid], (tables(genes, valid)[valid] + expected) / 2, atol=1e-6)
    assert len(both.parts()) == len(tables.parts()) + 1
    assert torch.allclose(both.parts()[-1](genes, valid)[valid], expected, atol=1e-6)
    steps = 5 * len(data.train_dataloader())
    assert any(f"planned: {steps} steps on 1," in line and "counts 1.00 beside 1" in line for line in both.notes())
    with pytest.raises(ValueError, match="the saved scores are of the sources"):
        both.load_state_dict(tables.state_dict())


def test_a_training_as_long_as_the_tables_is_foretold_by_them_alone() -> None:
    tables, both = KnowledgeFitness(), KnowledgeFitness(budget=PlannedTraining(epochs=4_000))
    for fitness in (tables, both):
        fitness.setup(SPACE, Digits(batch_size=64))
    genes = SPACE.random(Noise([0]), 50)[0]
    everything = torch.ones(50, dtype=torch.bool)
    assert torch.equal(tables(genes, everything), both(genes, everything))
    assert 0 < weight_of(replace(BENCHMARK, steps=10_000)) < weight_of(replace(BENCHMARK, steps=5_000)) < 1


def test_a_predictor_that_the_target_taught_is_not_asked() -> None:
    fitness = KnowledgeFitness(exclude=["CIFAR-100"], budget=PlannedTraining(epochs=5))
    fitness.setup(SPACE, Digits())
    assert names(fitness) == ["cifar10", "imagenet16-120"]
    assert len(fitness.parts()) == 2
    assert not any(line.startswith("planned") for line in fitness.notes())


def test_a_budget_without_images_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match="a budget is of a training on images, and there are none"):
        KnowledgeFitness(budget=PlannedTraining()).setup(SPACE)


def test_twelve_epochs_of_a_data_set_that_taught_neither_are_ranked_better_by_both() -> None:
    table = load_table("nasbench201")
    truth = table.metrics["cifar10/valid/12"]
    planned = TrainingBudget(12 * 98, 25_000, 32, 10, 80)
    model = predictor_of(SPACE)
    assert model is not None
    foreseen = foresee(model, SPACE, planned, torch.device("cpu"))
    fitness = KnowledgeFitness(exclude=["cifar10"])
    fitness.setup(SPACE)
    tables = fitness(table.genes, torch.ones(len(table.genes), dtype=torch.bool))
    both = tables + foreseen.weight * foreseen.scores[SPACE.code(table.genes)]
    assert foreseen.weight == 1
    assert spearmanr(both, truth).statistic > spearmanr(tables, truth).statistic + 0.005
