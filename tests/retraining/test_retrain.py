import csv
import dataclasses
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ednag import load
from ednag.costs.counting import count_costs
from ednag.data import Digits, ImageFolder
from ednag.generation.report import Candidate, Report
from ednag.retraining.job import retrain
from ednag.retraining.module import Recipe
from ednag.retraining.results import Summary
from ednag.spaces import NASBench201

Silent = Callable[..., Callable[..., pl.Trainer]]
SMALL = {"channels": 4, "cells": 1}


@pytest.mark.slow
def test_digits_end_to_end(tmp_path: Path, report: Report, silent: Silent) -> None:
    recipe = Recipe(epochs=3, lr=0.1, label_smoothing=0.05, weights="best")
    before = torch.get_rng_state()
    summary = retrain(report, NASBench201(), Digits(), recipe, tmp_path, silent(), network=SMALL)
    assert torch.equal(before, torch.get_rng_state())
    assert [result.status for result in summary.results] == ["finished", "finished"]
    first = summary.results[0]
    assert first.test["top1"] > 85
    assert first.val["top1"] > 85
    assert first.epochs == 3
    assert first.images_per_second > 0
    network = load(tmp_path / "001")
    costs = count_costs(network, (1, 16, 16))
    assert (first.params, first.macs) == (costs.params, costs.macs)
    data = Digits()
    right = [network(x).argmax(-1) == y for x, y in map(data.prepare, data.test_dataloader())]
    assert 100 * torch.cat(right).float().mean() == pytest.approx(first.test["top1"], abs=1e-3)
    rows = list(csv.DictReader((tmp_path / "summary.csv").read_text().splitlines()))
    assert [float(row["test_top1"]) for row in rows] == [result.test["top1"] for result in summary.results]
    assert json.loads((tmp_path / "001/metrics.json").read_text())["genes"] == report.candidates[0].genes
    torch.load(tmp_path / "001/last.ckpt", weights_only=True)
    torch.load(tmp_path / "001/best.ckpt", weights_only=True)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("0*/*")}
    again = retrain(report, NASBench201(), Digits(), recipe, tmp_path, silent(), network=SMALL)
    assert again.results == summary.results
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.glob("0*/*")}
    assert summary.best is not None
    assert load(tmp_path).state_dict().keys() == load(tmp_path / f"{summary.best.rank:03d}").state_dict().keys()
    with pytest.raises(ValueError, match=r"another retraining \(different: seed, recipe\)"):
        retrain(report, NASBench201(), Digits(), Recipe(epochs=4), tmp_path, silent(), network=SMALL, seed=1)


def test_photographs(tmp_path: Path, photographs: Path, report: Report, silent: Silent) -> None:
    data = ImageFolder(photographs, image_size=32, batch_size=16, cutout=8)
    recipe = Recipe(epochs=1, mixup=0.2)
    result = retrain(report, NASBench201(), data, recipe, tmp_path, silent(), top_k=1, network=SMALL).results[0]
    assert result.status == "finished"
    told = json.loads((tmp_path / "001/architecture.json").read_text())
    assert told["class_names"] == ["china", "digit", "flower"]
    assert (told["num_classes"], told["in_channels"], told["image_size"]) == (3, 3, [32, 32])
    assert told["preprocessing"] == data.preprocessing.describe()
    assert told["preprocessing"]["mean"] == data.normalisation["mean"]


class Unstable(NASBench201):
    """A space with networks that can't be trained: those whose first gene is 1."""

    def build(self, genes: Tensor, num_classes: int, **options: int) -> nn.Sequential:  # type: ignore[override]
        network = super().build(genes, num_classes, **options)
        if genes[0] == 1:
            nn.init.constant_(network[-1][-1].weight, torch.nan)
        return network


def test_a_failing_network_is_recorded_and_the_rest_go_on(tmp_path: Path, report: Report, silent: Silent) -> None:
    named = Report({"class_path": "here.Unstable"}, report.fitness, report.candidates)
    arguments = (named, Unstable(), Digits(), Recipe(epochs=1), tmp_path, silent(limit_train_batches=3))
    summary = retrain(*arguments, network=SMALL)
    failed, finished = summary.results
    assert (failed.status, finished.status) == ("failed", "finished")
    assert "not finite" in failed.reason
    assert failed.test == {}
    assert summary.best == finished
    assert not (tmp_path / "001/weights.safetensors").exists()
    assert json.loads((tmp_path / "summary.json").read_text())["results"][0]["status"] == "failed"
    assert retrain(*arguments, network=SMALL).results == summary.results


KILLED = """
    import json, os, signal, sys
    from pathlib import Path

    import lightning.pytorch as pl
    import torch

    torch.set_num_threads(1)
    from ednag.generation.report import Report
    from ednag.data import Digits
    from ednag.retraining.job import retrain
    from ednag.retraining.module import Recipe
    from ednag.spaces import NASBench201

    run = Path(sys.argv[1])
    kill = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)

    class InBatch(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.current_epoch == 1 and batch_idx == 2:
                kill()

    def kill_while_saving():
        replace, saved = Path.replace, []

        def replace_or_die(self, target):
            saved.append(target)
            if len(saved) == 2:
                self.write_bytes(self.read_bytes()[:1000])
                kill()
            return replace(self, target)

        Path.replace = replace_or_die

    def retrain_until(where):
        if where == "saving":
            kill_while_saving()
        if where == "testing":
            pl.Trainer.test = kill

        def make(*, folder, max_epochs, callbacks):
            return pl.Trainer(
                accelerator="cpu", default_root_dir=folder, max_epochs=max_epochs, logger=False,
                callbacks=callbacks + ([InBatch()] if where == "batch" else []), limit_train_batches=4,
                enable_progress_bar=False, enable_model_summary=False,
            )

        report, network = Report.load(run.parent / "report.json"), {"channels": 4, "cells": 1}
        retrain(report, NASBench201(), Digits(cutout=4), Recipe(epochs=3, mixup=0.2), run, make, network=network)

    for where in sys.argv[2:]:
        child = os.fork()
        if child == 0:
            retrain_until(where)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        callbacks = torch.load(run / "001/last.ckpt", weights_only=True)["callbacks"]
        epochs = next(value["epochs"] for name, value in callbacks.items() if "EpochCheckpoint" in name)
        done = (run / "001/metrics.json").exists()
        print(json.dumps([where, os.WTERMSIG(status), epochs, done]))
"""


@pytest.mark.slow
def test_sigkill_at_three_points_changes_nothing(tmp_path: Path, report: Report, silent: Silent) -> None:
    """Killed within an epoch, while a checkpoint is being saved, and after the last epoch; then resumed."""
    report.save(tmp_path / "report.json")
    script, run = tmp_path / "killed.py", tmp_path / "run"
    script.write_text(textwrap.dedent(KILLED))
    command = [sys.executable, str(script), str(run), "batch", "saving", "testing"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("[")]
    assert found == [["batch", 9, 1, False], ["saving", 9, 2, False], ["testing", 9, 3, False]]
    arguments = (report, NASBench201(), Digits(cutout=4), Recipe(epochs=3, mixup=0.2))
    resumed = retrain(*arguments, run, silent(limit_train_batches=4), network=SMALL)
    whole = retrain(*arguments, tmp_path / "whole", silent(limit_train_batches=4), network=SMALL)
    for one, other in zip(resumed.results, whole.results, strict=True):
        assert one.test == other.test
        assert one.val == other.val
        assert one.epochs == other.epochs == 3
    ours, theirs = load(run / "001").state_dict(), load(tmp_path / "whole/001").state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


class Own(pl.LightningDataModule):
    """A user's module: float images, and only what is required."""

    def __init__(self, num_classes: object = 3, shape: tuple[int, ...] = (2, 9, 7)) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.shape = shape

    def _loader(self) -> DataLoader:
        x = torch.randn(32, *self.shape, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(x, torch.arange(32) % 3), batch_size=16)

    train_dataloader = val_dataloader = test_dataloader = _loader


def test_a_users_own_data_module(tmp_path: Path, report: Report, silent: Silent) -> None:
    result = retrain(
        report, NASBench201(), Own(), Recipe(epochs=1), tmp_path, silent(), top_k=1, network=SMALL
    ).results[0]
    assert result.status == "finished"
    told = json.loads((tmp_path / "001/architecture.json").read_text())
    assert (told["in_channels"], told["image_size"]) == (2, [9, 7])
    assert load(tmp_path / "001")(torch.zeros(1, 2, 9, 7)).shape == (1, 3)


@pytest.mark.parametrize("own", [Own(num_classes=None), Own(num_classes=1), Own(shape=(4,))])
def test_a_data_module_that_does_not_serve(tmp_path: Path, report: Report, own: Own) -> None:
    with pytest.raises(ValueError, match=r"Own('s train images)? must have the (attribute num_classes|shape)"):
        retrain(report, NASBench201(), own, Recipe(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_mistakes_are_told_before_anything_is_trained(tmp_path: Path, report: Report, silent: Silent) -> None:
    space, run = NASBench201(), tmp_path / "run"
    with pytest.raises(ValueError, match="top_k must be >= 1"):
        retrain(report, space, Digits(), Recipe(), run, top_k=0)
    with pytest.raises(ValueError, match="no architecture to retrain"):
        retrain(Report(report.space, "f", []), space, Digits(), Recipe(), run)
    with pytest.raises(ValueError, match="of the search space DARTS, not of NASBench201"):
        retrain(Report({"class_path": "x.DARTS"}, "f", report.candidates), space, Digits(), Recipe(), run)
    report.candidates[1].genes[2] = 9
    with pytest.raises(ValueError, match="gene 2 of nasbench201 must be in"):
        retrain(report, space, Digits(), Recipe(), run)
    report.candidates[1].genes[2] = 0
    other = Candidate("64-41414-2_13_013", [2, 1, 3, 0, 1, 3], 1.0)  # of a space with as many genes
    with pytest.raises(ValueError, match=r"not of nasbench201: not a NAS-Bench-201 cell: '64-4"):
        retrain(Report(report.space, "f", [other]), space, Digits(), Recipe(), run)
    other = Candidate(report.candidates[0].architecture, report.candidates[1].genes, 1.0)
    with pytest.raises(ValueError, match=r"genes \[3, 1, 0, 0, 1, 2\] in the report are .* not the architecture named"):
        retrain(Report(report.space, "f", [other]), space, Digits(), Recipe(), run)
    assert not run.exists()
    with pytest.raises(ValueError, match=r"network options .* don't suit nasbench201"):
        retrain(report, space, Digits(), Recipe(), run, silent(), network={"colour": 1})


def test_summary_without_success(tmp_path: Path) -> None:
    assert Summary([], tmp_path).best is None


@pytest.mark.parametrize("options", [{"precision": p} for p in ("16-true", "bf16-true", "64-true")])
def test_true_precisions_train_and_load(tmp_path: Path, report: Report, silent: Silent, options: dict) -> None:
    made = silent(limit_train_batches=2, limit_test_batches=1, **options)
    arguments = (Digits(), Recipe(epochs=1), tmp_path)
    assert retrain(report, NASBench201(), *arguments, made, top_k=1, network=SMALL).results[0].status == "finished"
    assert load(tmp_path)(torch.zeros(1, 1, 16, 16)).isfinite().all()


def test_without_validation_the_first_is_loaded(tmp_path: Path, report: Report, silent: Silent) -> None:
    made = silent(limit_train_batches=2, limit_val_batches=0)
    summary = retrain(report, NASBench201(), Digits(), Recipe(epochs=1), tmp_path, made, network=SMALL)
    assert [result.val for result in summary.results] == [{}, {}]
    assert summary.best is summary.results[0]
    state = load(tmp_path).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in load(tmp_path / "001").state_dict().items())


def test_other_images_or_options_are_no_resumption(tmp_path: Path, report: Report, silent: Silent) -> None:
    import shutil

    from tests.cli.test_killed import folder_of_images

    images, run = folder_of_images(tmp_path / "images"), tmp_path / "run"
    tested = images.rename(tmp_path / "all") / "class0"
    for split, numbers in {"train": range(30), "test": range(30, 40)}.items():
        for label in range(2):
            (images / split / f"class{label}").mkdir(parents=True)
            for i in numbers:
                shutil.copy(tmp_path / "all" / f"class{label}" / f"{i:02d}.png", images / split / f"class{label}")
    made = silent(limit_train_batches=1)

    def go(root: Path = images, **options: object) -> None:
        data = ImageFolder(root, **{"image_size": 8, "batch_size": 8, **options})
        retrain(report, NASBench201(), data, Recipe(epochs=1), run, made, top_k=1, network=SMALL)

    go()
    go(Path(shutil.move(images, tmp_path / "moved")))  # where they are doesn't matter
    shutil.move(tmp_path / "moved", images)
    for options in (
        {"test_fraction": 0.3},
        {"val_fraction": 0.3},
        {"min_scale": 0.5},
        {"in_memory": False, "levels": (0, 9)},
    ):
        with pytest.raises(ValueError, match=r"not those that .* was begun with \(different: \w"):
            go(**options)
    shutil.copy(images / "test/class0/30.png", images / "train/class0/leaked.png")
    with pytest.raises(ValueError, match=r"not those that .* was begun with \(different: \w"):
        go()
    (images / "train/class0/leaked.png").unlink()
    (images / "test/class1/30.png").write_bytes((tested / "00.png").read_bytes())
    with pytest.raises(ValueError, match=r"not those that .* was begun with \(different: \w"):
        go()


def test_another_optimiser_is_no_resumption(tmp_path: Path, report: Report, silent: Silent) -> None:
    made = silent(limit_train_batches=1)

    def go(**options: object) -> None:
        retrain(report, NASBench201(), Digits(), Recipe(epochs=1, **options), tmp_path, made, top_k=1, network=SMALL)

    go(optimizer=lambda p: torch.optim.AdamW(p, 1e-3), lr_scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 5))
    for lr, step in ((2e-3, 5), (1e-3, 6)):
        with pytest.raises(ValueError, match=r"another retraining \(different: recipe\)"):
            go(
                optimizer=lambda p, lr=lr: torch.optim.AdamW(p, lr),
                lr_scheduler=lambda o, step=step: torch.optim.lr_scheduler.StepLR(o, step),
            )


def test_a_network_beyond_the_memory_of_a_cpu_fails_alone(
    tmp_path: Path, report: Report, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ednag.retraining.training import Job

    train = Job.train

    def first_is_too_large(job: Job, *args: object) -> object:
        if job.rank == 1:
            torch.empty(2**50, dtype=torch.uint8).zero_()
        return train(job, *args)

    monkeypatch.setattr(Job, "train", first_is_too_large)
    arguments = (Digits(), Recipe(epochs=1), tmp_path, silent(limit_train_batches=1))
    failed, finished = retrain(report, NASBench201(), *arguments, network=SMALL).results
    assert (failed.status, finished.status) == ("failed", "finished")
    assert "allocate" in failed.reason


def test_limits_of_a_generation_hold_for_what_is_built(tmp_path: Path, report: Report, silent: Silent) -> None:
    limited = dataclasses.replace(report, limits={"max_params": 5000.0})
    arguments = (NASBench201(), Digits(), Recipe(epochs=1))
    with pytest.raises(ValueError, match=r"params as built here, more than the max_params of 5,000 .*--cost.network"):
        retrain(limited, *arguments, tmp_path / "run", silent(), network={"channels": 16, "cells": 5})
    assert not (tmp_path / "run").exists()
    made = silent(limit_train_batches=1)
    kept = retrain(limited, *arguments, tmp_path / "run", made, network={"channels": 2, "cells": 1}, top_k=1)
    assert kept.results[0].params <= 5000
