"""Fine-tuning of networks with inherited weights, on coloured patterns made here."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ednag.classify.saved import load_network, read_architecture
from ednag.core.fingerprint import describe_object
from ednag.core.noise import Noise
from ednag.core.storage import load_state
from ednag.data.arrays import NumpyImages
from ednag.data.describe import describe_data
from ednag.data.sampling import image_batch
from ednag.fitness.discriminant import best_scale, cross_validated
from ednag.generation.report import Candidate, Report
from ednag.retraining.baselines import plan_baselines
from ednag.retraining.finetuning import FineTuning, divergence, scaled_head
from ednag.retraining.job import retrain
from ednag.retraining.module import Recipe
from ednag.retraining.progress import EpochCheckpoint, Weights
from ednag.retraining.results import read_result
from ednag.retraining.training import Job
from ednag.spaces import NASBench201, PretrainedLite
from ednag.spaces.inside import run_inside
from ednag.spaces.inverted_residual import InvertedResidualNetwork

SPACE = PretrainedLite(resolutions=(32,))
TEXT = "d=1,1,1 e=2,3,2 k=3,3,3 head=no r=32"
MakeTrainer = Callable[..., Callable[..., pl.Trainer]]


def images(path: Path) -> NumpyImages:
    scale = {"mean": [127 / 255] * 3, "std": [128 / 255] * 3}
    return NumpyImages(path, image_size=32, batch_size=32, val_fraction=0.3, crop_padding=0, min_area=0.5, **scale)


def report(text: str = TEXT) -> Report:
    return Report(describe_object(SPACE), "test", [Candidate(text, SPACE.parse(text).tolist(), 1.0)])


def recipe(lr: float = 1e-3, epochs: int = 2, weights: Weights = "best", **options: object) -> Recipe:
    fine = FineTuning(**{"calibration": 40, "frozen_stages": 2, **options})  # type: ignore[arg-type]
    optimizer = partial(torch.optim.AdamW, lr=lr)
    return Recipe(epochs=epochs, optimizer=optimizer, weights=weights, fine_tuning=fine)  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", ["best", "better", "likeliest"])
def test_a_head_in_closed_form_is_better_than_chance_and_training_never_makes_it_worse(
    weights: Weights, patterns: Path, tmp_path: Path, silent: MakeTrainer
) -> None:
    options = recipe(lr=30.0, epochs=1, weights=weights)
    summary = retrain(report(), SPACE, images(patterns), options, tmp_path, silent())
    result = summary.results[0]
    assert result.start["top1"] > 45  # chance is a third
    assert result.val == result.start  # a learning rate of 30 destroys everything: the first head was kept
    assert json.loads((tmp_path / "001/metrics.json").read_text())["start"] == result.start


@pytest.mark.slow
def test_only_what_may_learn_changes(patterns: Path, tmp_path: Path, silent: MakeTrainer) -> None:
    summary = retrain(report(), SPACE, images(patterns), recipe(epochs=2), tmp_path, silent())
    assert summary.results[0].status == "finished"
    states = [load_state(tmp_path / "001" / name)["state_dict"] for name in ("last.ckpt",)]
    begun = SPACE.build(SPACE.parse(TEXT), 3)
    FineTuning(calibration=40).begin(begun, SPACE, images(patterns))
    changed = {
        name for name, value in begun.state_dict().items() if not torch.equal(states[0][f"network.{name}"], value)
    }
    assert all(name.startswith(("blocks.2.", "blocks.3.", "classifier.")) for name in changed)  # stages 3 and 4
    assert not any(".bn." in name for name in changed)
    assert {"classifier.linear.weight", "blocks.3.conv.depth_conv.conv.weight"} <= changed


def test_batch_normalisation_may_learn_outside_the_frozen_stages(
    patterns: Path, tmp_path: Path, silent: MakeTrainer
) -> None:
    options = recipe(epochs=1, head_epochs=0, train_norms=True)
    retrain(report(), SPACE, images(patterns), options, tmp_path, silent())
    state = load_state(tmp_path / "001/last.ckpt")["state_dict"]
    begun = SPACE.build(SPACE.parse(TEXT), 3)
    FineTuning(calibration=40).begin(begun, SPACE, images(patterns))
    assert begun.training
    for name in ("running_mean", "weight"):
        moved = [
            not torch.equal(
                state[f"network.blocks.{i}.conv.depth_conv.bn.{name}"], block.conv.depth_conv.bn.state_dict()[name]
            )
            for i, block in enumerate(begun.blocks)
        ]
        assert moved == [False, False, True, True]


@pytest.mark.slow
def test_head_epochs_train_the_head_alone(patterns: Path, tmp_path: Path, silent: MakeTrainer) -> None:
    retrain(report(), SPACE, images(patterns), recipe(epochs=1, head_epochs=1), tmp_path, silent())
    state = load_state(tmp_path / "001/last.ckpt")["state_dict"]
    begun = SPACE.build(SPACE.parse(TEXT), 3)
    FineTuning(calibration=40).begin(begun, SPACE, images(patterns))
    for name, value in begun.state_dict().items():
        assert torch.equal(state[f"network.{name}"], value) != name.startswith("classifier.")


@pytest.mark.slow
def test_a_killed_training_ends_as_an_uninterrupted_one(patterns: Path, tmp_path: Path, silent: MakeTrainer) -> None:
    class Kill(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 1:
                raise KeyError("killed")

    options = recipe(lr=1e-4, epochs=2, head_epochs=0)
    whole = retrain(report(), SPACE, images(patterns), options, tmp_path / "whole", silent())

    def killed(*, folder: Path, max_epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
        return silent()(folder=folder, max_epochs=max_epochs, callbacks=[*callbacks, Kill()])

    with pytest.raises(KeyError, match="killed"):
        retrain(report(), SPACE, images(patterns), options, tmp_path / "killed", killed)
    resumed = retrain(report(), SPACE, images(patterns), options, tmp_path / "killed", silent())
    assert resumed.results[0].test == whole.results[0].test
    assert resumed.results[0].start == whole.results[0].start


@pytest.mark.slow
def test_a_parent_can_teach(patterns: Path, tmp_path: Path, silent: MakeTrainer) -> None:
    results = []
    for share in (0.0, 0.9):
        options = recipe(epochs=1, head_epochs=0, distillation=share)
        results.append(retrain(report(), SPACE, images(patterns), options, tmp_path / str(share), silent()).results[0])
    states = [load_state(tmp_path / str(share) / "001/last.ckpt")["state_dict"] for share in (0.0, 0.9)]
    assert states[0].keys() == states[1].keys()  # the teacher is in no checkpoint
    assert not torch.equal(states[0]["network.classifier.linear.weight"], states[1]["network.classifier.linear.weight"])
    assert all(result.status == "finished" for result in results)


@pytest.mark.slow
def test_networks_are_cut_out_of_the_fine_tuned_parent_and_taught_by_it(
    patterns: Path, tmp_path: Path, silent: MakeTrainer
) -> None:
    whole = "d=2,2,3 e=6,6,6 k=3,5,3 head=no r=32"  # the parent without its last three stages: nothing to adapt
    options = recipe(epochs=1, head_epochs=0, through_parent=True, distillation=0.5)
    summary = retrain(report(whole), SPACE, images(patterns), options, tmp_path, silent())
    assert summary.results[0].status == "finished"
    parent = read_result(tmp_path / "baseline_parent")
    assert parent is not None
    assert parent.architecture == SPACE.describe(SPACE.largest)
    begun = SPACE.build(SPACE.parse(whole), 3)
    trained = load_network(tmp_path / "baseline_parent", read_architecture(tmp_path / "baseline_parent"))
    untrained = SPACE.build(SPACE.largest, 3).state_dict()
    options.fine_tuning.begin(  # type: ignore[union-attr]
        begun,
        SPACE,
        images(patterns),
        parent=SPACE.parent().trained(trained),  # type: ignore[arg-type]
    )
    x, _ = next(iter(images(patterns).train_dataloader()))
    with torch.no_grad():
        for network in (begun.eval(), trained):
            network.seen = network.blocks[:8](network.first_conv(x.float() / 255))  # type: ignore[operator, index]
    torch.testing.assert_close(begun.seen, trained.seen, rtol=1e-3, atol=1e-3)
    assert not torch.equal(
        trained.state_dict()["blocks.7.conv.point_linear.conv.weight"],
        untrained["blocks.7.conv.point_linear.conv.weight"],
    )
    plans = plan_baselines(SPACE, SPACE.parse(whole), describe_data(images(patterns)), options, {}, 0)
    assert [plan.name for plan in plans[:2]] == ["linear_probe", "parent"]
    assert plans[1].recipe.fine_tuning == options.fine_tuning.of_parent()  # type: ignore[union-attr]
    assert plans[-1].recipe.fine_tuning == options.fine_tuning


@pytest.mark.parametrize(
    ("weights", "scores", "kept"),
    [("best", [70, 80, 60], 1), ("better", [70, 80, 60], 2), ("better", [70, 80, 40], None)],
)
def test_which_weights_are_kept(weights: Weights, scores: list[float], kept: int | None, tmp_path: Path) -> None:
    class Fake(SimpleNamespace):
        def save_checkpoint(self, path: Path) -> None:
            path.write_text(str(self.current_epoch))

    checkpoint = EpochCheckpoint(tmp_path, 0, weights)
    checkpoint.begin(pl.LightningModule(), {"val/top1": 50.0})
    for epoch, score in enumerate(scores):
        trainer = Fake(current_epoch=epoch, max_epochs=3, is_global_zero=True, callback_metrics={"val/top1": score})
        checkpoint.on_train_epoch_end(trainer, pl.LightningModule())  # type: ignore[arg-type]
    found = (tmp_path / "best.ckpt").read_bytes()
    assert found == (str(kept).encode() if kept is not None else found)
    assert (len(found) > 10) == (kept is None)  # else what training began with


def test_mixtures_of_the_weights_before_and_after_training(tmp_path: Path) -> None:
    class Classifier(pl.LightningModule):
        def __init__(self, level: float) -> None:
            super().__init__()
            self.network = torch.nn.BatchNorm1d(2)
            torch.nn.init.constant_(self.network.weight, level)
            self.network.num_batches_tracked.fill_(int(level))

    checkpoint, trained = EpochCheckpoint(tmp_path, 0, "likeliest"), Classifier(3.0).state_dict()
    checkpoint.begin(Classifier(1.0), {"val/top1": 50.0})
    found = checkpoint.candidates(trained)
    assert [float(some["network.weight"][0]) for some in found] == [3.0, 2.5, 2.0, 1.5, 1.0]
    assert [int(some["network.num_batches_tracked"]) for some in found] == [3, 3, 3, 3, 1]  # a count is no weight
    with pytest.raises(ValueError, match="likeliest is for recipe"):
        Recipe(weights="likeliest")


def test_divergence_is_kullback_and_leiblers() -> None:
    logits, teacher = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).double()
    p, q = (teacher / 3).softmax(-1), (logits / 3).softmax(-1)
    expected = 9 * (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(divergence(logits, teacher, 3.0), expected)
    assert divergence(logits, logits, 3.0).abs() < 1e-12


def test_the_heads_scale_minimises_the_cross_entropy_of_held_out_images() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(40)
    x = (2.0 * F.one_hot(labels, 3) + torch.randn(120, 3, generator=generator)) * 50
    head = scaled_head(x, labels, 3, 0.3)
    held_out = cross_validated(x, labels, 3, 0.3)

    def loss(scale: float) -> Tensor:
        return F.cross_entropy(scale * held_out, labels)

    factor = float(head.weight.norm() / scaled_weight(x, labels).norm())
    assert loss(factor) <= min(loss(factor * 1.15), loss(factor / 1.15))
    assert (head(x).argmax(1) == labels).float().mean() > 0.8


def test_a_head_on_features_of_a_tuned_parent_is_as_sure_as_validation_images_allow(patterns: Path) -> None:
    """Such a parent knows its training images by heart: features of them tell nothing of how sure the head may be."""
    network, data = SPACE.build(SPACE.parse(TEXT), 3), images(patterns)
    FineTuning(calibration=40).begin(network, SPACE, data, parent=SPACE.parent())
    other = image_batch(data, 1000, split="val")
    assert not any(torch.equal(one, another) for one in other.images for another in image_batch(data, 1000).images)
    with torch.no_grad():
        scale, _ = best_scale(network.eval()(other.images), other.labels)
    assert scale == pytest.approx(1, rel=0.07)  # half a step of the factors that are tried


def scaled_weight(x: Tensor, labels: Tensor) -> Tensor:
    from ednag.fitness.discriminant import fit_discriminant

    return fit_discriminant(x, labels, 3, 0.3).weight


def test_spaces_without_weights_to_inherit_are_refused(patterns: Path, tmp_path: Path, silent: MakeTrainer) -> None:
    space = NASBench201()
    genes = torch.ones(6, dtype=torch.int64)
    found = Report(describe_object(space), "test", [Candidate(space.describe(genes), genes.tolist(), 1.0)])
    with pytest.raises(ValueError, match=r"recipe.fine_tuning is for networks that inherit weights"):
        retrain(found, space, images(patterns), recipe(), tmp_path, silent(), network={"channels": 4, "cells": 1})
    with pytest.raises(ValueError, match="distillation in"):
        FineTuning(distillation=2.0)
    with pytest.raises(ValueError, match="frozen_stages >= 0"):
        FineTuning(frozen_stages=-1)


@pytest.mark.slow
def test_members_that_learned_with_their_parent_say_what_it_says(
    patterns: Path, tmp_path: Path, silent: MakeTrainer
) -> None:
    def gaps(weight: float) -> list[float]:
        folder, data = tmp_path / str(weight), images(patterns)
        whole = report(SPACE.describe(SPACE.largest))
        retrain(whole, SPACE, data, recipe(epochs=3, weights="last", members=weight), folder, silent())
        network = load_network(folder / "001", read_architecture(folder / "001"))
        assert isinstance(network, InvertedResidualNetwork)
        batch = image_batch(data, 200, split="val").images
        with torch.no_grad():
            said = network.eval()(batch)
            members = SPACE.random(Noise([7]), 6)[0]
            return [float(divergence(run_inside(network, SPACE.plan(one), batch), said, 1.0)) for one in members]

    alone, together = gaps(0.0), gaps(1.0)
    assert sum(together) < 0.7 * sum(alone)


def test_members_learn_with_nothing_but_their_parent(patterns: Path, tmp_path: Path) -> None:
    def job(text: str, members: float) -> Job:
        return Job(
            1, report(text).candidates[0], {}, describe_data(images(patterns)), recipe(members=members), {}, 0, tmp_path
        )

    whole = SPACE.describe(SPACE.largest)
    assert job(whole, 1.0).parent_of(SPACE) is SPACE
    assert job(whole, 0.0).parent_of(SPACE) is None
    assert job(TEXT, 1.0).parent_of(SPACE) is None
    assert job(whole, 1.0).parent_of(NASBench201()) is None
    with pytest.raises(ValueError, match=r"members must be >= 0 and finite, got -1"):
        FineTuning(members=-1)
