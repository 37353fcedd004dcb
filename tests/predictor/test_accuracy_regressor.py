"""The accuracy regressor: trained by the command line on the measured sub-networks, and used as fitness."""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from scipy.stats import kendalltau, spearmanr

from ednag.cli.main import main
from ednag.core.noise import Noise
from ednag.fitness import RegressorFitness
from ednag.generation.report import Report
from ednag.predictor.accuracy_regressor import AccuracyRegressor, MeasuredNetworks, load_regressor, read_measured
from ednag.samplers.presets import CONFIGS
from ednag.spaces import DARTS, MobileNetV3
from tests.conftest import TABLES

CONFIG = str(CONFIGS / "fit" / "ofa_accuracy.yaml")
QUICK = [
    "--trainer.max_epochs",
    "12",
    "--trainer.check_val_every_n_epoch",
    "4",
    "--trainer.enable_progress_bar",
    "false",
]
SPACE = MobileNetV3()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "fit"
    assert main(["fit", "--config", CONFIG, *QUICK, "--run_dir", str(folder)]) == 0
    return folder


@pytest.mark.slow
def test_what_is_reported_is_what_the_checkpoint_reaches_on_the_held_out_fifth(run: Path) -> None:
    card = json.loads((run / "regressor.json").read_text())
    assert (card["training"], card["held_out"], card["space"]) == (1730, 432, {"name": "mobilenetv3", "width": 1.0})
    genes, accuracy = read_measured(TABLES / "ofa_mobilenetv3.npz")
    held = torch.randperm(len(genes), generator=torch.Generator().manual_seed(0))[:432]
    fitness = RegressorFitness(run / "regressor.ckpt")
    fitness.setup(SPACE)
    found = fitness(genes[held], torch.ones(432, dtype=torch.bool))
    assert fitness.evaluations == 432
    assert spearmanr(found, accuracy[held])[0] == pytest.approx(card["val/spearman"], abs=1e-4)
    assert kendalltau(found, accuracy[held])[0] == pytest.approx(card["val/kendall"], abs=1e-3)
    assert float((found - accuracy[held]).abs().mean()) == pytest.approx(card["val/mae"], abs=1e-4)
    assert card["val/spearman"] > 0.97
    logged = next((run / "logs").rglob("metrics.csv"))
    values = [row["val/spearman"] for row in csv.DictReader(logged.read_text().splitlines()) if row["val/spearman"]]
    assert len(values) == 3
    assert float(values[-1]) == pytest.approx(card["val/spearman"], abs=1e-6)


@pytest.mark.slow
def test_the_split_is_a_partition_and_training_is_reproducible(run: Path, tmp_path: Path) -> None:
    data = MeasuredNetworks()
    data.setup("fit")
    rows = torch.cat([data.training.tensors[0], data.held_out.tensors[0]])
    assert len(rows.unique(dim=0)) == 2162
    assert main(["fit", "--config", CONFIG, *QUICK, "--run_dir", str(tmp_path / "again")]) == 0
    one, other = load_regressor(run / "regressor.ckpt"), load_regressor(tmp_path / "again" / "regressor.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.slow
def test_the_shipped_configuration_generates_below_the_latency(run: Path, tmp_path: Path) -> None:
    config = str(CONFIGS / "generate" / "mobilenetv3-accuracy.yaml")
    limit = yaml.safe_load(Path(config).read_text())["max_latency_ms"]
    args = [
        "--fitness.checkpoint",
        str(run / "regressor.ckpt"),
        "--evaluations",
        "24",
        "--run_dir",
        str(tmp_path / "g"),
    ]
    quiet = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    assert main(["generate", "--config", config, *args, *quiet]) == 0
    report = Report.load(tmp_path / "g")
    assert report.fitness == "predicted ImageNet top-1 accuracy, %"
    assert report.candidates
    assert all(0 < c.costs["latency_ms"] <= limit for c in report.candidates)
    model = load_regressor(run / "regressor.ckpt")
    best = torch.tensor(report.candidates[0].genes)
    assert float(model(SPACE.features(best))) == pytest.approx(report.candidates[0].fitness, abs=1e-4)


@pytest.mark.slow
def test_inert_genes_do_not_matter(run: Path) -> None:
    fitness = RegressorFitness(run / "regressor.ckpt")
    fitness.setup(SPACE)
    genes = SPACE.random(Noise([1]), 8)[0]
    torch.testing.assert_close(fitness.score(SPACE.canonical(genes)), fitness.score(genes))


@pytest.mark.slow
def test_checkpoints_that_do_not_serve_are_refused(run: Path, tmp_path: Path) -> None:
    fitness = RegressorFitness(run / "regressor.ckpt")
    with pytest.raises(ValueError, match=r"fitted on mobilenetv3\(width=1\.0\), the search space is darts"):
        fitness.setup(DARTS())
    with pytest.raises(ValueError, match=r"the search space is mobilenetv3\(width=1\.2\)"):
        fitness.setup(MobileNetV3(1.2))
    (tmp_path / "cut.ckpt").write_bytes((run / "regressor.ckpt").read_bytes()[:5000])
    with pytest.raises(ValueError, match="damaged"):
        RegressorFitness(tmp_path / "cut.ckpt")
    torch.save({"state_dict": {}, "ednag_regressor": {"sizes": {"features": 100}}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="not a checkpoint of an AccuracyRegressor"):
        RegressorFitness(tmp_path / "other.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(ValueError, match=r"not a saved state \(it holds a list\)"):
        RegressorFitness(tmp_path / "list.ckpt")
    with pytest.raises(FileNotFoundError, match="--config fit/ofa_accuracy"):
        RegressorFitness(tmp_path / "none.ckpt")


@pytest.mark.slow
def test_mistakes_in_a_fit_are_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["fit", "--config", CONFIG, *QUICK]
    for args, words in (
        (["--model.features", "70"], "has 100 features; set model.features, now 70"),
        (["--data.holdout", "1.5"], "holdout must be in (0, 1)"),
        (["--data.table", str(run / "config.yaml")], "damaged or not a benchmark table"),
        (["--data", "Digits"], "needs measured architectures"),
    ):
        assert main([*base, *args, "--run_dir", str(tmp_path / str(len(words)))]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(ValueError, match="must be >= 1"):
        AccuracyRegressor(features=0)
