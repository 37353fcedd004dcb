"""The probe: discriminant analysis against scikit-learn's, and scores of inherited features on images made here."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from ednag.core.noise import Noise
from ednag.costs.model import CostModel, Limits
from ednag.data.image_folder import ImageFolder
from ednag.fitness import ProbeFitness
from ednag.fitness.discriminant import cross_validated, fit_discriminant, stratified_folds
from ednag.generation.run import Generation
from ednag.samplers import ArchiveDiffusion
from ednag.spaces import NASBench201, PretrainedLite

SPACE = PretrainedLite(resolutions=(32, 64))
NORMALISED = {"mean": [127 / 255] * 3, "std": [128 / 255] * 3}


def clouds(classes: int, each: int, features: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat_interleave(each)
    mixing = torch.randn(features, features, generator=generator)
    centres = torch.randn(classes, features, generator=generator)
    x = torch.randn(len(labels), features, generator=generator) @ mixing / features**0.5 + centres[labels]
    return x.double(), labels


def test_discriminant_analysis_is_scikit_learns() -> None:
    x, labels = clouds(4, 30, 12)
    # Theirs shrinks the covariance of standardised features, and scales it back: give it features that are standard.
    within = x - torch.stack([x[labels == k].mean(0) for k in range(4)])[labels]
    x = x / within.square().mean(0).sqrt()
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3, priors=[0.25] * 4).fit(x.numpy(), labels.numpy())
    expected = torch.from_numpy(theirs.decision_function(x.numpy()))
    found = fit_discriminant(x, labels, 4, 0.3)(x)
    torch.testing.assert_close(found - found[:, :1], expected - expected[:, :1], rtol=0.05, atol=0.3)
    assert torch.equal(found.argmax(1), expected.argmax(1))


def test_discriminant_analysis_is_its_formula() -> None:
    x, labels = clouds(3, 7, 5)
    means = torch.stack([x[labels == k].mean(0) for k in range(3)])
    scatter = sum(torch.outer(row - means[k], row - means[k]) for row, k in zip(x, labels, strict=True)) / 21
    shrunk = 0.8 * scatter + 0.2 * scatter.trace() / 5 * torch.eye(5, dtype=torch.float64)
    inverse = shrunk.inverse()
    expected = torch.stack([x @ inverse @ m - m @ inverse @ m / 2 for m in means], 1)
    found = fit_discriminant(x, labels, 3, 0.2)(x)
    torch.testing.assert_close(found - found[:, :1], expected - expected[:, :1])


def test_a_class_without_images_is_never_chosen() -> None:
    x, labels = clouds(2, 9, 4)
    assert fit_discriminant(x, labels, 3)(x)[:, 2].isneginf().all()


def test_folds_share_every_class() -> None:
    labels = torch.tensor([0] * 10 + [1] * 5 + [2] * 7)[torch.randperm(22, generator=torch.Generator().manual_seed(1))]
    fold = stratified_folds(labels, 2, 0)
    for label in range(3):
        sizes = [int((fold[labels == label] == part).sum()) for part in range(2)]
        assert abs(sizes[0] - sizes[1]) <= 1
    assert not torch.equal(fold, stratified_folds(labels, 2, 1))


def test_held_out_images_have_no_say_in_their_own_logits() -> None:
    x, labels = clouds(3, 20, 6)
    logits = cross_validated(x, labels, 3)
    changed = x.clone()
    changed[0] += 100
    fold = stratified_folds(labels, 2, 0)
    same = fold == fold[0]
    same[0] = False
    assert torch.equal(cross_validated(changed, labels, 3)[same], logits[same])
    noise = torch.randn(60, 6, generator=torch.Generator().manual_seed(5)).double()
    hits = (cross_validated(noise, labels, 3).argmax(1) == labels).double().mean()
    assert 0.15 < hits < 0.55  # chance is a third


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 40 images: discs, bars and noise, at random places and in random colours."""
    root, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    yy, xx = np.mgrid[:64, :64]
    for name in ("bar", "disc", "noise"):
        (root / name).mkdir()
        for number in range(40):
            x, y = rng.integers(16, 48, 2)
            mask = {
                "bar": abs(xx - x) < 5,
                "disc": (xx - x) ** 2 + (yy - y) ** 2 < 150,
                "noise": rng.random((64, 64)) < 0.3,
            }
            pixels = np.where(mask[name][..., None], rng.integers(0, 256, 3), rng.integers(0, 256, 3))
            Image.fromarray((pixels + rng.integers(-20, 20, (64, 64, 3))).clip(0, 255).astype(np.uint8)).save(
                root / name / f"{number}.png"
            )
    return root


def images(folder: Path, **options: object) -> ImageFolder:
    return ImageFolder(folder, image_size=64, **{**NORMALISED, **options})  # type: ignore[arg-type]


@pytest.mark.slow
def test_scores_are_accuracies_and_do_not_depend_on_what_was_scored_before(folder: Path) -> None:
    genes = torch.cat([SPACE.seeds()[:2], SPACE.random(Noise([0]), 3)[0]])
    fitness, other = ProbeFitness(), ProbeFitness()
    for one in (fitness, other):
        one.setup(SPACE, images(folder))
    scores = fitness.score(genes)
    assert torch.equal(other.score(genes.flip(0)).flip(0), scores)
    assert ((scores >= 0) & (scores <= 100)).all()
    assert scores[0] > 80  # the parent tells bars, discs and noise apart
    told = fitness.details(genes)
    assert told["probe_nll"].isfinite().all()
    odds = (100 - told["probe_accuracy"]) / told["probe_accuracy"]
    share = SPACE.count(genes, 3)[:, 1] / SPACE.count(SPACE.largest, 3)[1]
    torch.testing.assert_close(scores, 100 / (1 + odds * share.double() ** -0.25))
    again = ProbeFitness()
    again.setup(SPACE, images(folder))
    again.load_state_dict(fitness.state_dict())
    assert torch.equal(again.details(genes)["probe_nll"], fitness.details(genes)["probe_nll"])
    shifted = ProbeFitness()
    shifted.setup(SPACE, images(folder, seed=1))
    with pytest.raises(ValueError, match="other images"):
        shifted.load_state_dict(fitness.state_dict())


@pytest.mark.slow
def test_a_generation_under_a_limit_begins_with_the_seeds(folder: Path, tmp_path: Path) -> None:
    """The parent exceeds the limit: it costs no evaluation, and what is reported keeps to the limit."""
    fitness = ProbeFitness(images=60, repeats=1)
    limit = 0.5 * float(SPACE.count(SPACE.largest, 3)[1])
    generation = Generation(
        SPACE,
        fitness,
        ArchiveDiffusion(),
        evaluations=8,
        top_k=2,
        limits=Limits(max_flops=limit),
        cost_model=CostModel(),
    )
    generation.setup(images(folder), "cpu")
    report = generation.report(generation.run(tmp_path))
    assert report.counts["distinct_evaluations"] == 8
    for candidate in report.candidates:
        assert candidate.costs["macs"] == int(SPACE.count(torch.tensor(candidate.genes), 3)[1]) <= limit
        assert candidate.scores["probe_nll"] >= 0
        assert candidate.fitness <= candidate.scores["probe_accuracy"] <= 100


def test_unsuitable_spaces_and_images_get_one_sentence(folder: Path) -> None:
    with pytest.raises(ValueError, match="inherit weights"):
        ProbeFitness().setup(NASBench201(), images(folder))
    with pytest.raises(ValueError, match="needs images"):
        ProbeFitness().setup(SPACE)
    with pytest.raises(ValueError, match=r"normalised as .* --data.mean \[0.498, 0.498, 0.498\]; --data.std"):
        ProbeFitness().setup(SPACE, ImageFolder(folder, image_size=64))
    with pytest.raises(ValueError, match="images >= 24"):
        ProbeFitness(images=10)
    with pytest.raises(ValueError, match="24 training images or more"):
        ProbeFitness().setup(SPACE, images(folder, test_fraction=0.9, val_fraction=0.5))
