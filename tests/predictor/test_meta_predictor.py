"""The meta predictor on data with a known signal."""

import json
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from scipy import stats

from ednag.cli.main import main
from ednag.predictor.losses import FLOOR, bootstrap_weights, ranking_loss, standardise
from ednag.predictor.meta_data import MetaData
from ednag.predictor.meta_predictor import MetaPredictor, load_predictor
from ednag.predictor.saving import CONFIG, WEIGHTS, save_predictor
from ednag.predictor.scores import task_scores
from ednag.predictor.task_rows import read_rows
from ednag.samplers.presets import CONFIGS
from ednag.spaces.base import find_space

from .synthetic import SOURCES, write_meta_data

SMALL = {"extractor": "resnet18", "width": 24, "hidden": 32, "members": 2, "lr": 3e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_meta_data(tmp_path_factory.mktemp("meta"))


def data(folder: Path, **options: object) -> MetaData:
    chosen = {"test_sources": SOURCES[:2], "val_sources": SOURCES[2:3], "batch_size": 8, **options}
    return MetaData(folder / "rows.npz", folder / "tasks.json", folder / "features", "resnet18", **chosen)


def fit(folder: Path, run: Path, epochs: int, **options: object) -> tuple[MetaPredictor, dict[str, float]]:
    pl.seed_everything(0, verbose=False)
    model, module = MetaPredictor(**{**SMALL, **options}), data(folder)
    trainer = pl.Trainer(
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=run,
        accelerator="cpu",
    )
    trainer.fit(model, module)
    return model, trainer.test(model, module, verbose=False)[0]


@pytest.fixture(scope="module")
def fitted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[MetaPredictor, dict[str, float], Path]:
    run = tmp_path_factory.mktemp("run")
    return (*fit(folder, run, 15), run)


@pytest.mark.slow
def test_images_of_the_task_make_the_difference(
    fitted: tuple[MetaPredictor, dict[str, float], Path], folder: Path, tmp_path: Path
) -> None:
    aware, (_, blind) = fitted[1], fit(folder, tmp_path, 15, task_aware=False)
    assert aware["test/spearman"] > blind["test/spearman"] + 0.04
    assert aware["test/kendall"] > blind["test/kendall"] + 0.05
    assert aware["test/pearson"] > 0.8
    assert aware["test/regret5"] < aware["test/regret1"]


def test_a_seed_gives_the_same_predictor_again(folder: Path, tmp_path: Path) -> None:
    first, second = (fit(folder, tmp_path, 2)[0] for _ in range(2))
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_a_saved_predictor_scores_as_before(fitted: tuple[MetaPredictor, dict[str, float], Path], folder: Path) -> None:
    model, _, run = fitted
    loaded = load_predictor(run)
    assert sum(file.stat().st_size for file in (run / "predictor").iterdir()) < 10e6
    batch = data(folder).part("test").collate([0])
    for one in (model.eval(), loaded):
        embedding = one.embed(batch.features[0])
        mean, deviation = one.predict_scores(batch.genes[0], embedding)
        members = one(batch.genes[0], embedding)
        assert torch.allclose(mean, members.mean(-1))
        assert torch.allclose(deviation, members.std(-1, correction=0))
        assert deviation.min() > 0
    assert torch.allclose(mean, model.predict_scores(batch.genes[0], model.embed(batch.features[0]))[0], atol=1e-5)


def test_a_damaged_or_foreign_predictor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="ednag fit"):
        load_predictor(tmp_path)
    save_predictor(MetaPredictor(**SMALL), tmp_path)
    content = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(content[:-100])
    with pytest.raises(ValueError, match="truncated or damaged"):
        load_predictor(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(content)
    config = json.loads((tmp_path / CONFIG).read_text())
    for change, message in [
        ({"format": 99}, "format 99"),
        ({"hyperparameters": {**config["hyperparameters"], "width": 32}}, "don't fit together"),
        ({"hyperparameters": {**config["hyperparameters"], "odd": 1}}, "don't fit together"),
        ({"hyperparameters": {**config["hyperparameters"], "extractor": "odd"}}, "unknown feature extractor"),
    ]:
        (tmp_path / CONFIG).write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=message):
            load_predictor(tmp_path)
    (tmp_path / CONFIG).write_text("{")
    with pytest.raises(ValueError, match="not the configuration"):
        load_predictor(tmp_path)


def test_no_source_is_in_two_splits(folder: Path) -> None:
    module = data(folder, val_sources=())
    sources = {}
    for name in ("train", "val", "test"):
        part = module.part(name)
        sources[name] = {module.tasks[i].source for i in part.chosen}
    assert sources["test"] == set(SOURCES[:2])
    assert len(sources["val"]) == 1
    assert not sources["train"] & (sources["val"] | sources["test"])
    assert sum(map(len, sources.values())) == len(SOURCES)
    batch = next(iter(module.train_dataloader()))
    assert batch.genes.shape == (8, 20, 6)
    assert batch.features.shape[0] == 8
    assert batch.present.sum(-1).min() >= 2


def test_failed_trainings_are_left_out_and_damaged_meta_data_refused(folder: Path, tmp_path: Path) -> None:
    import numpy as np

    with np.load(folder / "rows.npz") as content:
        arrays = dict(content)
    valid = arrays["valid"].copy()
    valid[::4] = np.nan
    np.savez(tmp_path / "rows.npz", **{**arrays, "valid": valid})
    assert len(read_rows(tmp_path / "rows.npz").task) == 600
    assert len(read_rows(tmp_path / "rows.npz", "test").task) == 800
    np.savez(tmp_path / "rows.npz", genes=arrays["genes"])
    with pytest.raises(ValueError, match=r"not rows of meta data \(no 'task'\)"):
        read_rows(tmp_path / "rows.npz")
    with pytest.raises(FileNotFoundError, match="ednag collect"):
        read_rows(tmp_path / "absent.npz")
    with pytest.raises(ValueError, match="'zebra' is a test source or has no tasks"):
        data(folder, val_sources=("zebra",)).setup()


def test_the_wrong_space_or_extractor_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="meta data are of nasbench201"):
        fit(folder, tmp_path, 1, space="transnas101_micro")
    with pytest.raises(ValueError, match="512 image features, efficientnet_lite0 makes 1280"):
        fit(folder, tmp_path, 1, extractor="efficientnet_lite0")
    with pytest.raises(ValueError, match=r"unknown search space 'odd'; allowed: .*darts"):
        find_space("odd")


def test_scores_agree_with_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, accuracy = torch.randn(2, 30, generator=generator).double()
    accuracy[3] = accuracy[4]  # a tie
    found = task_scores(predicted, accuracy)
    assert float(found["spearman"]) == pytest.approx(stats.spearmanr(predicted, accuracy).statistic, abs=1e-5)
    assert float(found["kendall"]) == pytest.approx(stats.kendalltau(predicted, accuracy).statistic, abs=1e-5)
    assert float(found["pearson"]) == pytest.approx(stats.pearsonr(predicted, accuracy).statistic, abs=1e-5)
    order = sorted(range(30), key=lambda i: -float(predicted[i]))
    for k in (1, 5):
        assert float(found[f"regret{k}"]) == pytest.approx(
            float(accuracy.max()) - max(float(accuracy[i]) for i in order[:k])
        )
    assert float(task_scores(torch.zeros(4), torch.arange(4.0))["spearman"]) == 0


def test_losses_agree_with_loops() -> None:
    generator = torch.Generator().manual_seed(1)
    accuracy = torch.rand(2, 5, generator=generator) * 100
    measured = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    target = standardise(accuracy, measured)
    row = accuracy[1, :3]
    assert torch.allclose(target[1, :3], ((row - row.mean()) / row.std(correction=0)).clamp_min(FLOOR), atol=1e-5)
    scores = torch.randn(2, 5, 3, generator=generator)
    weights = bootstrap_weights(torch.arange(10).reshape(2, 5), 3) * measured[..., None]
    total, norm = 0.0, 0.0
    for t in range(2):
        for i in range(5):
            for j in range(5):
                for m in range(3):
                    apart = float(target[t, i] - target[t, j])
                    if apart > 0 and measured[t, i] and measured[t, j]:
                        weight = apart * float(weights[t, i, m] * weights[t, j, m])
                        total += weight * float(torch.log1p(torch.exp(scores[t, j, m] - scores[t, i, m])))
                        norm += weight
    assert float(ranking_loss(scores, target, weights)) == pytest.approx(total / norm, rel=1e-4)


def test_bootstrap_weights_are_exponential_and_fixed() -> None:
    weights = bootstrap_weights(torch.arange(20_000), 3)
    assert stats.kstest(weights.flatten().numpy(), "expon").pvalue > 0.01
    assert abs(float(torch.corrcoef(weights.T)[0, 1])) < 0.03
    assert torch.equal(bootstrap_weights(torch.tensor([7, 9]), 3), weights[[7, 9]])
    assert torch.equal(bootstrap_weights(torch.arange(4), 1), torch.ones(4, 1))


@pytest.mark.slow
def test_the_shipped_configuration_trains(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    options = {
        "config": CONFIGS / "fit" / "meta_predictor.yaml",
        "model.extractor": "resnet18",
        "model.width": 8,
        "model.encoder": "digcn",
        "model.task_aware": "true",
        "data.images": "true",
        "data.table_rows": "8",
        "trainer.check_val_every_n_epoch": "1",
        "data.rows": folder / "rows.npz",
        "data.tasks": folder / "tasks.json",
        "data.features": folder / "features",
        "data.extractor": "resnet18",
        "data.test_sources": "[ants, bees]",
        "data.val_sources": "[cats]",
        "trainer.max_epochs": 4,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "run_dir": run,
    }
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    monkeypatch.setattr("sys.argv", ["ednag", "fit", *words])
    assert main() == 0
    final = torch.load(next(iter(run.rglob("final*.ckpt"))), weights_only=True)["state_dict"]
    assert load_predictor(run).learned_from == ["cifar10", "cifar100", "imagenet16-120"]
    loaded = load_predictor(run).state_dict()
    assert all(torch.equal(loaded[name], final[name]) for name in loaded if not name.startswith("scores."))
    assert "val/spearman" in next(iter(run.rglob("metrics.csv"))).read_text()
