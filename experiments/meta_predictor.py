"""The meta predictor on data sets that it never saw, at three budgets of training, each left out in turn.

    python experiments/meta_predictor.py --folder runs/meta_predictor

For each data set of NAS-Bench-201: the predictor of `configs/fit/meta_predictor.yaml` is trained without its table and
without the rows of the test sources, and judged on the left-out table (12 and 200
epochs) and, without CIFAR-10, on the rows of the test sources (64 steps on 1,000 images). Beside it: the teachers alone (the mean of the other
tables, smoothed), teachers and predictor together, the mean rank in training, and parameters. Intervals hold 95 % of 200
bootstrap samples, of tasks for rows and of cells for tables. Fits are kept below --folder, so that a killed run goes on; with
--features, so are predictors that look at images. `--executor` trains several predictors at a time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from scipy.stats import kendalltau, pearsonr, spearmanr
from torch import Tensor

from ednag.benchmarks.dense import load_table
from ednag.execution import Call
from ednag.fitness import BenchmarkFitness, KnowledgeFitness
from ednag.predictor.losses import standardise
from ednag.predictor.meta_data import MetaData
from ednag.predictor.meta_predictor import MetaPredictor, load_predictor
from ednag.predictor.scores import SCORES, task_scores
from ednag.predictor.smoothing import class_means
from ednag.predictor.table_tasks import classes_of, read_table_tasks
from ednag.predictor.task_rows import TaskRows
from ednag.spaces import NASBench201
from executors import chosen

SPACE = NASBench201()
DATASETS = ("cifar10", "cifar100", "imagenet16-120")
VALIDATION = ["tiny_imagenet_64", "notmnist", "arabic_letters", "kannada_digits"]  # as configs/fit/meta_predictor.yaml
Predict = Callable[[int, Tensor], Tensor]
"""From a row task's index (-1: a table) and genes ``(n, L)`` to scores ``(n,)``."""
SAMPLES = 200


def fits(dataset: str, features: Path | None) -> dict[str, list[str]]:
    """Options of the predictors that are trained without a data set, by their folder's name."""
    looking = ["--model.task_aware", "true", "--data.images", "true", "--data.features", str(features)]
    return {dataset: [], **({} if features is None else {f"{dataset}-images": looking})}


def taught_by(dataset: str) -> list[str]:
    """Tables of the other data sets."""
    return [f"nasbench201/{name}" for name in DATASETS if name != dataset]


def fit(root: Path, common: None, name: str, tables: list[str], options: list[str]) -> None:
    """Train a predictor on some tables, and rows that are not of the test sources; a call for an executor."""
    command = ["fit", "--config", "fit/meta_predictor", "--run_dir", str(root / name), *options]
    command += ["--data.tables", f"[{', '.join(tables)}]", "--trainer.enable_progress_bar", "false"]
    subprocess.run([sys.executable, "-m", "ednag", *command], check=True)


def fit_all(options: argparse.Namespace) -> None:
    """Train the predictors that are not there yet."""
    folder = options.folder.absolute()
    calls = [
        Call(name, fit, (name, taught_by(dataset), more), writes=(Path(name),), log=Path("logs") / f"{name}.txt")
        for dataset in options.datasets
        for name, more in fits(dataset, options.features).items()
        if not (folder / name / "predictor" / "weights.safetensors").exists()
    ]
    executor = chosen(options.executor, options.workers)
    if calls:
        executor.check(folder)
    for outcome in executor.run(calls, folder):
        outcome.result()


def standardised(scores: Tensor) -> Tensor:
    return (scores - scores.mean()) / scores.std()


def by_predictor(model: MetaPredictor, part: TaskRows, code: Tensor | None) -> Predict:
    def predict(task: int, genes: Tensor) -> Tensor:
        shown = part.features[task] if task >= 0 and len(part.features[task]) else None
        budget = code if task < 0 else part.budgets[task]
        return standardised(model.predict_scores(genes, model.embed(shown, budget=budget))[0].double())

    return predict


def by_teachers(dataset: str) -> Predict:
    knowledge = KnowledgeFitness(exclude=[dataset])
    knowledge.setup(SPACE)
    return lambda task, genes: standardised(knowledge.score(genes))


def by_parameters() -> Predict:
    parameters = load_table("nasbench201").metrics["cifar10/params"]
    return lambda task, genes: parameters[SPACE.code(genes)]


def by_mean_rank(train: TaskRows) -> Predict:
    """Mean standardised accuracy that an isomorphism class has in the tables and tasks of training."""
    total, count = torch.zeros(15_625, dtype=torch.float64), torch.zeros(15_625, dtype=torch.float64)
    columns = [(one.genes, one.accuracy) for one in train.tables]
    columns += [(train.rows.genes[index], train.rows.accuracy[index]) for index in train.members.values()]
    for genes, accuracy in columns:
        values = standardise(accuracy[None], torch.ones(1, len(accuracy), dtype=torch.bool))[0].double()
        total.index_add_(0, SPACE.identity(genes), values)
        count.index_add_(0, SPACE.identity(genes), torch.ones_like(values))
    return lambda task, genes: (total / count.clamp(min=1))[SPACE.identity(genes)]


def interval(values: list[Tensor]) -> str:
    low, high = torch.stack(values).double().quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return f"{low:.3f} to {high:.3f}"


def on_rows(predict: Predict, test: TaskRows) -> str:
    """Means over the tasks of the test sources, and the interval of Spearman's."""
    found = [
        task_scores(predict(task, test.rows.genes[index]), test.rows.accuracy[index])
        for task, index in test.members.items()
    ]
    table = torch.tensor([[float(one[name]) for name in SCORES] for one in found])
    generator = torch.Generator().manual_seed(0)
    drawn = [table[torch.randint(len(table), (len(table),), generator=generator)].mean(0) for _ in range(SAMPLES)]
    return show(table.mean(0), drawn)


def on_table(predict: Predict, genes: Tensor, accuracy: Tensor) -> str:
    """Scores over isomorphism classes, and intervals over samples of 1,000 of them."""
    predicted, generator = predict(-1, genes).double(), torch.Generator().manual_seed(0)
    drawn = []
    for _ in range(SAMPLES):
        index = torch.randint(len(genes), (1000,), generator=generator)
        first = accuracy[index[predicted[index].argmax()]]
        rho = torch.tensor(spearmanr(predicted[index], accuracy[index])[0])
        drawn.append(torch.stack([rho, rho, rho, accuracy[index].max() - first]))
    rest = (kendalltau(predicted, accuracy)[0], pearsonr(predicted, accuracy)[0])
    order = predicted.argsort(descending=True, stable=True)
    regrets = [accuracy.max() - accuracy[order[:k]].max() for k in (1, 5)]
    return show(torch.tensor([spearmanr(predicted, accuracy)[0], *rest, *regrets]), drawn)


def show(values: Tensor, drawn: list[Tensor]) -> str:
    cells = [f"{float(value):.3f}" for value in values]
    spread = [interval([one[i] for one in drawn]) for i in (0, 3)]
    return f"| {' | '.join(cells)} | {' | '.join(spread)} |"


def judge(dataset: str, folder: Path, features: Path | None) -> None:
    """Print what is worth what, with one data set left out."""
    names = ("predictor", "predictor that looks at images")
    kept = [load_predictor(folder / name) for name in fits(dataset, features)]
    models = dict(zip(names, kept, strict=False))
    data = MetaData(
        features=features or Path("unused"),
        images=features is not None,
        val_sources=VALIDATION,
        tables=taught_by(dataset),
    )
    train, test = data.part("train"), data.part("test")
    table = load_table("nasbench201")
    genes, codes, place = classes_of(SPACE, table.genes, table.row)
    budgets = {one.budget.steps: one.budget for one in read_table_tasks("nasbench201") if one.dataset == dataset}
    lengths = (
        {"12 epochs": min(budgets), "200 epochs": max(budgets)} if len(budgets) > 1 else {"200 epochs": max(budgets)}
    )
    if dataset == "cifar10":  # a test source, whose table taught the other predictors
        lengths = {"64 steps": 0.0, **lengths}
    for length, steps in lengths.items():
        code = budgets[steps].encode() if steps else None
        methods: dict[str, Predict] = {"teachers alone": by_teachers(dataset)}
        methods |= {name: by_predictor(model, test, code) for name, model in models.items()}
        methods["teachers and predictor"] = together(methods["teachers alone"], methods["predictor"])
        methods |= {"mean rank in training": by_mean_rank(train), "parameters": by_parameters()}
        for name, predict in methods.items():
            if not steps:
                line = on_rows(predict, test)
            else:
                metric = BenchmarkFitness("nasbench201", dataset, int(length.split()[0])).metric
                line = on_table(predict, genes, class_means(table.metrics[metric][codes], place))
            print(f"| {dataset} | {length} | {name} {line}", flush=True)


def together(first: Predict, second: Predict) -> Predict:
    return lambda task, genes: standardised(first(task, genes)) + standardised(second(task, genes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/meta_predictor"))
    parser.add_argument("--features", type=Path, default=None, help="image features of the tasks: also fit with images")
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=DATASETS)
    parser.add_argument("--executor", default="in_process", choices=["in_process", "processes", "ray"])
    parser.add_argument("--workers", type=int, default=2, help="of the executor")
    options = parser.parse_args()
    torch.set_num_threads(1)
    fit_all(options)
    print(f"| left out | training | method | {' | '.join(SCORES)} | spearman, 95 % | regret1, 95 % |\n|{'---|' * 10}")
    for dataset in options.datasets:
        judge(dataset, options.folder, options.features)


if __name__ == "__main__":
    main()
