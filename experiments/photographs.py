"""Sub-networks of a pretrained network on folders of photographs, against the parent and against training from scratch.

For each folder and seed (of the split, the search and the training): the parent's linear probe, the parent fine-tuned
alone and together with random members of the space, and what 60 evaluations find under 75, 50 and 25 % of the parent's
multiply-accumulates, cut out of the latter and fine-tuned in the same way. Every figure is written down as it comes, so a
killed measurement goes on; test images are opened after a training's end.

    python experiments/photographs.py --data trashnet=FOLDER cifar=FOLDER --seeds 3 --folder runs/photographs

No executor: CPU seconds are of this process, and what is cut out waits for its parent. To go faster, start it once for each seed
(``--first_seed``, ``--seeds 1``), with a folder for each.

With ``--ranks N``, N random members are fine-tuned instead, to see which probe ranks as fine-tuning does.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import onnxruntime
import torch
from scipy.stats import spearmanr

from ednag.classify.saved import load_network, read_architecture
from ednag.core.fingerprint import describe_object
from ednag.core.noise import Noise
from ednag.costs.model import Limits
from ednag.data import ImageFolder
from ednag.data.describe import describe_data
from ednag.data.sampling import image_batch
from ednag.fitness import ProbeFitness, ZeroCostFitness
from ednag.fitness.discriminant import cross_validated
from ednag.generation.report import Candidate, Report
from ednag.generation.run import Generation
from ednag.retraining.baselines import plan_baselines
from ednag.retraining.finetuning import FineTuning
from ednag.retraining.job import retrain
from ednag.retraining.module import ImageClassifier, Recipe
from ednag.samplers import ArchiveDiffusion
from ednag.spaces import PretrainedLite
from ednag.spaces.adaptation import Adaptation

SHARES = (0.75, 0.5, 0.25)
"""Limits, as shares of the parent's multiply-accumulates."""

PARENT = "parent-with-members"
"""Unit of the parent that sub-networks are cut out of."""

Row = dict[str, object]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="NAME=FOLDER, one folder of images a class in each")
    parser.add_argument("--folder", type=Path, required=True, help="where rows.jsonl and the runs go")
    parser.add_argument("--size", type=int, default=96, help="side of the images in pixels")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--lr", type=float, default=7e-4)
    parser.add_argument("--distillation", type=float, default=0.0)
    parser.add_argument("--members", type=float, default=1.0, help="weight of random members while the parent learns")
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="limits, of the parent's MACs")
    parser.add_argument("--scratch", action="store_true", help="also train a thin ResNet of equal cost from scratch")
    parser.add_argument("--latency", action="store_true", help="also time what was picked, with ONNX Runtime")
    parser.add_argument("--ranks", type=int, default=0, help="fine-tune this many random members in place of the bars")
    return parser.parse_args()


class Measurement:
    """One folder and one seed."""

    def __init__(self, name: str, root: Path, seed: int, options: argparse.Namespace) -> None:
        self.name, self.root, self.seed, self.options = name, root, seed, options
        smaller = [options.size - 32] if options.size > 64 else []
        self.space = PretrainedLite(resolutions=(*smaller, options.size))
        self.folder = options.folder / f"{name}-{seed}"
        self.parent = self.space.largest
        self.fitness = ProbeFitness()  # remembers its scores from limit to limit

    def images(self) -> ImageFolder:
        """A fresh data module, as configs/retrain/photographs.yaml has it."""
        scale = {name: [round(value, 3) for value in values] for name, values in self.space.normalisation.items()}
        how = {"crop_padding": 0, "min_area": 0.35, "colour": 0.2, "batch_size": 32, "seed": self.seed}
        return ImageFolder(
            self.root, image_size=self.options.size, test_fraction=0.2, val_fraction=0.15, **how, **scale
        )

    def report(self, genes: torch.Tensor) -> Report:
        """A report of one network."""
        text = self.space.describe(genes)
        return Report(describe_object(self.space), "none", [Candidate(text, genes.tolist(), 0.0)])

    def recipe(self, through_parent: bool, members: float = 0.0) -> Recipe:
        """The recipe of configs/retrain/photographs.yaml; the parent itself is taught by nobody."""
        optimizer = partial(torch.optim.AdamW, lr=self.options.lr, weight_decay=0.02)
        options = FineTuning(through_parent=through_parent, distillation=self.options.distillation, members=members)
        return Recipe(
            epochs=self.options.epochs,
            optimizer=optimizer,  # type: ignore[arg-type]
            warmup_epochs=1,
            label_smoothing=0.05,
            weights="likeliest",
            fine_tuning=options if through_parent else options.of_parent(),
        )

    def fine_tuned(self, report: Report, label: str, through_parent: bool = True, members: float = 0.0) -> Row:
        """Fine-tune a report's first architecture, cut out of the parent that was fine-tuned before."""
        folder = self.folder / label
        if through_parent and not (folder / "baseline_parent").exists():
            shutil.copytree(self.folder / PARENT / "001", folder / "baseline_parent")
        begun = time.process_time()
        found = retrain(
            report, self.space, self.images(), self.recipe(through_parent, members), folder, trainer, 1, seed=self.seed
        )
        result = found.results[0]
        seconds = round(time.process_time() - begun)
        costs = {"params": result.params, "macs": result.macs, "architecture": result.architecture}
        accuracies = {"start_val": result.start["top1"], "val": result.val["top1"], "test": result.test["top1"]}
        return {**costs, **accuracies, "fine_tuning_cpu_seconds": seconds}

    def from_scratch(self, share: float) -> Row:
        """Train the thin ResNet that `ednag retrain --baselines` trains beside a network of this cost."""
        data = self.images()
        data.setup()
        row = next(row for row in read(self.options.folder / "rows.jsonl") if self.is_unit(row, f"pick-{share}"))
        genes = self.space.parse(str(row["architecture"]))
        plans = plan_baselines(self.space, genes, describe_data(data), self.recipe(False), {}, self.seed)
        (plan,) = (plan for plan in plans if plan.name == "thin_resnet")
        begun = time.process_time()
        report = Report(describe_object(plan.space), "none", [plan.candidate])
        folder = self.folder / f"scratch-{share}"
        found = retrain(
            report, plan.space, self.images(), plan.recipe, folder, trainer, 1, network=plan.network, seed=self.seed
        )
        result, seconds = found.results[0], round(time.process_time() - begun)
        return {"params": result.params, "macs": result.macs, "test": result.test["top1"], "cpu_seconds": seconds}

    def is_unit(self, row: Row, unit: str) -> bool:
        """Whether a row is this measurement's, of that unit."""
        return (row["data"], row["seed"], row["unit"]) == (self.name, self.seed, unit)

    def linear_probe(self) -> Row:
        """Test accuracy of the parent with the head in closed form, nothing trained."""
        data = self.images()
        data.setup()
        network = self.space.build(self.parent, data.num_classes)
        FineTuning().begin(network, self.space, data)
        with tempfile.TemporaryDirectory() as folder:
            tester = trainer(folder=Path(folder), max_epochs=1, callbacks=[])
            values = tester.test(ImageClassifier(network, data.num_classes), datamodule=data, verbose=False)[0]
        return {"test": values["test/top1"]}

    def picked(self, share: float) -> Row:
        """Generate under a limit, and fine-tune what was found."""
        data, begun, cpu = self.images(), time.perf_counter(), time.process_time()
        data.setup()
        limit = share * float(self.space.count(self.parent, data.num_classes)[1])
        generation = Generation(
            self.space,
            self.fitness,
            ArchiveDiffusion(initial=4, priors=[ZeroCostFitness(["flops"])]),
            seeds=[self.seed],
            evaluations=self.options.evaluations,
            top_k=1,
            limits=Limits(max_flops=limit),
            distinct="isomorphism",
        )
        folder = self.folder / f"generate-{share}"
        folder.mkdir(parents=True, exist_ok=True)
        saved = self.folder / PARENT / "001"
        self.fitness.inherit(self.space.parent().trained(load_network(saved, read_architecture(saved))))
        generation.setup(data, "cpu")
        report = generation.report(generation.run(folder))
        search = {"search_cpu_seconds": time.process_time() - cpu, "search_seconds": time.perf_counter() - begun}
        fitness = {"probe": report.candidates[0].fitness}
        return {**fitness, **search, **self.fine_tuned(report, f"retrain-{share}")}

    def units(self) -> dict[str, Callable[[], Row]]:
        """What is measured, by name, in order."""
        if self.options.ranks:
            genes = self.space.random(Noise([100 + self.seed]), self.options.ranks)[0]
            genes[:, -1] = len(self.space.resolutions) - 1
            return {f"random-{i}": partial(self.ranked, one, i) for i, one in enumerate(genes)}
        picks = {f"pick-{share}": partial(self.picked, share) for share in self.options.shares}
        parent = partial(self.fine_tuned, self.report(self.parent), through_parent=False)
        scratch = {f"scratch-{share}": partial(self.from_scratch, share) for share in self.options.shares}
        return {
            "linear_probe": self.linear_probe,
            "parent": partial(parent, "parent"),
            PARENT: partial(parent, PARENT, members=self.options.members),
            **picks,
            **(scratch if self.options.scratch else {}),
        }

    def ranked(self, genes: torch.Tensor, number: int) -> Row:
        """Probe a network in several ways, then fine-tune it."""
        data = self.images()
        batch = image_batch(data, 1000)
        network = self.space.build(genes, batch.num_classes)
        labels = batch.labels[250:]
        with torch.no_grad():
            features = Adaptation(self.space, batch.images[:250], batch.images[250:]).adapt(network)
        probes = {}
        for shrinkage in (0.1, 0.3, 0.6, 1.0):
            for folds in (2, 5):
                hits = [
                    (cross_validated(features, labels, batch.num_classes, shrinkage, folds, cut).argmax(1) == labels)
                    for cut in range(3)
                ]
                probes[f"lda {shrinkage} {folds} folds"] = 100 * float(torch.stack(hits).double().mean())
        return {"probes": probes, **self.fine_tuned(self.report(genes), f"random-{number}", through_parent=False)}


def trainer(*, folder: Path, max_epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Make a silent Trainer on the CPU."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings = {"accelerator": "cpu", "num_sanity_val_steps": 0, **quiet}
    return pl.Trainer(default_root_dir=folder, max_epochs=max_epochs, callbacks=callbacks, **settings)


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measure(options: argparse.Namespace) -> list[Row]:
    """Measure what is missing, and return all rows."""
    path = options.folder / "rows.jsonl"
    options.folder.mkdir(parents=True, exist_ok=True)
    sources = dict(text.split("=", 1) for text in options.data)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name, root in sources.items():
            for unit, work in Measurement(name, Path(root), seed, options).units().items():
                key = {"data": name, "seed": seed, "unit": unit}
                if any(all(row[k] == v for k, v in key.items()) for row in read(path)):
                    continue
                row = {**key, **work()}
                with path.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
                print(row, flush=True)
    return read(path)


def table(rows: list[Row]) -> None:
    """Print means over seeds."""
    tests: dict[tuple[object, object], list[float]] = defaultdict(list)
    for row in rows:
        tests[row["data"], row["unit"]].append(float(row["test"]))  # type: ignore[arg-type]
    for (name, unit), values in tests.items():
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        print(f"{name} | {unit} | {statistics.mean(values):.1f} ± {spread:.1f} | {len(values)} seeds")


def latencies(options: argparse.Namespace, rows: list[Row], repeats: int = 150) -> None:
    """Print CPU time of one image on one thread of ONNX Runtime, relative to the parent's: medians of interleaved turns."""
    space = PretrainedLite(resolutions=(options.size - 32, options.size) if options.size > 64 else (options.size,))
    texts = {str(row["architecture"]) for row in rows if str(row["unit"]).startswith("pick")}
    parent = space.describe(space.largest)
    sessions = {text: onnx_session(space, text, options.size) for text in (parent, *sorted(texts))}
    image = np.random.default_rng(0).normal(size=(1, 3, options.size, options.size)).astype(np.float32)
    times: dict[str, list[float]] = defaultdict(list)
    for turn in range(repeats + 10):
        for text, session in sessions.items():
            begun = time.process_time()
            session.run(None, {session.get_inputs()[0].name: image})
            if turn >= 10:
                times[text].append(time.process_time() - begun)
    for text, values in times.items():
        ratio = statistics.median(values) / statistics.median(times[parent])
        print(f"{text} | {1000 * statistics.median(values):.2f} ms | {ratio:.2f} of the parent's")


def onnx_session(space: PretrainedLite, text: str, size: int) -> onnxruntime.InferenceSession:
    """Export an untrained network, and open it on one thread."""
    network = space.build(space.parse(text), 10, pretrained=False).eval()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        torch.onnx.export(network, (torch.zeros(1, 3, size, size),), file, dynamo=True, verbose=False)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])


def ranks(rows: list[Row]) -> None:
    """Print rank correlations of probes and costs with fine-tuned test accuracy, a folder and seed at a time."""
    groups: dict[tuple[object, object], list[Row]] = defaultdict(list)
    for row in rows:
        if str(row["unit"]).startswith("random"):
            groups[row["data"], row["seed"]].append(row)
    for key, members in groups.items():
        test = [row["test"] for row in members]
        columns = {name: [row["probes"][name] for row in members] for name in members[0]["probes"]}  # type: ignore[index, attr-defined]
        columns |= {name: [row[name] for row in members] for name in ("macs", "params", "start_val")}
        found = {name: round(float(spearmanr(values, test).statistic), 2) for name, values in columns.items()}
        print(*key, len(members), "members", found)
        cost = np.log([[float(row[name]) for name in ("macs", "params")] for row in members])  # type: ignore[arg-type]
        design = np.column_stack([cost, np.ones(len(cost))])
        left = {n: v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for n, v in _arrays(columns, test).items()}
        print("  at equal cost:", round(float(spearmanr(left["lda 0.3 2 folds"], left["test"]).statistic), 2))


def _arrays(columns: dict[str, list[object]], test: list[object]) -> dict[str, np.ndarray]:
    return {name: np.array(columns[name] if name != "test" else test, float) for name in ("lda 0.3 2 folds", "test")}


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    chosen = arguments()
    measured = measure(chosen)
    ranks(measured) if chosen.ranks else table(measured)
    if chosen.latency:
        latencies(chosen, measured)
