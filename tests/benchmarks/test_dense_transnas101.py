"""TransNAS-Bench-101's tables as fitness, against plain dictionary look-ups by the benchmark's own strings."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from ednag.benchmarks.dense import load_table
from ednag.core.noise import Noise
from ednag.fitness.tabular import BenchmarkFitness
from ednag.spaces.base import SearchSpace
from ednag.spaces.transnas101 import TransNAS101Macro, TransNAS101Micro
from tests.conftest import TABLES

Arrays = dict[str, np.ndarray]
SPACES: dict[str, SearchSpace] = {"micro": TransNAS101Micro(), "macro": TransNAS101Macro()}
MEASURES = {
    "class_object": "top1",
    "class_scene": "top1",
    "segmentsemantic": "mIoU",
    "room_layout": "neg_loss",
    "jigsaw": "top1",
    "normal": "ssim",
    "autoencoder": "ssim",
}
OPS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3"]


def real(kind: str) -> tuple[str, Arrays]:
    path = TABLES / f"transnas101_{kind}.npz"
    with np.load(path) as table:
        return str(path), dict(table)


def text(kind: str, row: list[int]) -> str:
    if kind == "macro":
        return f"64-{''.join(str(t) for t in row if t)}-basic"
    a, b, c, d, e, f = row
    return f"64-41414-{a}_{b}{c}_{d}{e}{f}"


def made_up(kind: str) -> Arrays:
    """Rows shuffled; operations of micro numbered backwards; every task."""
    rng = np.random.default_rng(7)
    if kind == "micro":
        genes = np.array(list(itertools.product(range(4), repeat=6)), dtype=np.int8)
    else:
        rows = [
            (*t, *[0] * (6 - n))
            for n in (4, 5, 6)
            for t in itertools.product(range(1, 5), repeat=n)
            if 1 <= sum(x in (2, 4) for x in t) <= 3 and 1 <= sum(x in (3, 4) for x in t) <= 4
        ]
        genes = np.array(rows, dtype=np.int8)
    rng.shuffle(genes)
    out: Arrays = {"genes": genes}
    if kind == "micro":
        out["op_names"] = np.array(OPS[::-1])
    for task, measure in MEASURES.items():
        for split in ("train", "valid", "test"):
            out[f"{task}/{split}/{measure}"] = rng.uniform(-1, 90, len(genes)).astype(np.float32)
        out[f"{task}/train_seconds"] = rng.uniform(1, 9, len(genes)).astype(np.float32)
    return out


def saved(tmp_path: Path, arrays: Arrays) -> Path:
    path = tmp_path / "table.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("kind", ["micro", "macro"])
@pytest.mark.parametrize("task", list(MEASURES))
def test_every_architecture_of_the_real_tables(kind: str, task: str) -> None:
    path, arrays = real(kind)
    space = SPACES[kind]
    fitness = BenchmarkFitness(path, task)
    fitness.setup(space)
    genes = torch.from_numpy(arrays["genes"]).long()
    if kind == "macro":
        genes -= torch.tensor([1, 1, 1, 1, 0, 0])
    order = torch.randperm(len(genes), generator=torch.Generator().manual_seed(0))
    scores = fitness(genes[order].view(8, -1, 6), space.valid(genes[order].view(8, -1, 6))).flatten()
    column = arrays[f"{task}/valid/{MEASURES[task]}"]
    np.testing.assert_array_equal(scores.numpy(), column[order.numpy()])
    assert fitness.lookups == len(genes)
    assert fitness.evaluations == len(space.identity(genes).unique()) == {"micro": 1376, "macro": 3256}[kind]
    # by the benchmark's strings
    by_text = {text(kind, row): value for row, value in zip(arrays["genes"].tolist(), column.tolist(), strict=True)}
    some = genes[order[:50]]
    assert fitness.score(some).tolist() == [by_text[space.describe(row)] for row in some]


PUBLISHED_OPTIMA = {  # protocol.md; room layout there is a training loss
    ("micro", "class_object"): 46.32,
    ("micro", "class_scene"): 54.94,
    ("micro", "segmentsemantic"): 26.27,
    ("micro", "jigsaw"): 95.37,
    ("micro", "normal"): 0.5962,
    ("micro", "autoencoder"): 0.5772,
    ("macro", "class_object"): 47.96,
    ("macro", "class_scene"): 57.48,
    ("macro", "segmentsemantic"): 29.66,
    ("macro", "jigsaw"): 97.02,
    ("macro", "normal"): 0.6435,
    ("macro", "autoencoder"): 0.7688,
}


@pytest.mark.parametrize(("kind", "task"), PUBLISHED_OPTIMA)
def test_optima_are_the_published_ones(kind: str, task: str) -> None:
    path, arrays = real(kind)
    fitness = BenchmarkFitness(path, task)
    fitness.setup(SPACES[kind])
    assert fitness.optimum == pytest.approx(PUBLISHED_OPTIMA[kind, task], rel=1.2e-4)
    best = int(arrays[f"{task}/valid/{MEASURES[task]}"].argmax())
    genes = SPACES[kind].parse(text(kind, arrays["genes"][best].tolist()))
    assert torch.isin(SPACES[kind].identity(genes), fitness.optimum_keys())


def test_room_layout_is_a_loss_turned_round() -> None:
    for kind, least in (("micro", 0.5938), ("macro", 0.5628)):
        fitness = BenchmarkFitness(real(kind)[0], "room_layout")
        assert fitness.optimum == pytest.approx(-least, abs=5e-5)
        assert fitness.name == f"transnas101_{kind} room_layout valid negative loss at its best epoch"


def test_titles_say_what_is_measured(tmp_path: Path) -> None:
    path = saved(tmp_path, made_up("macro"))
    expected = {
        "class_object": "valid top-1 accuracy at its best epoch, %",
        "jigsaw": "valid top-1 accuracy at its best epoch, %",
        "segmentsemantic": "valid mIoU at its best epoch, %",
        "normal": "valid SSIM at its best epoch",
    }
    for task, title in expected.items():
        assert BenchmarkFitness(path, task).name == f"transnas101_macro {task} {title}"
    assert "train (oracle) negative loss" in BenchmarkFitness(path, "room_layout", oracle="train").name


@pytest.mark.parametrize("kind", ["micro", "macro"])
def test_rows_in_any_order_and_every_task(tmp_path: Path, kind: str) -> None:
    arrays = made_up(kind)
    path, space = saved(tmp_path, arrays), SPACES[kind]
    rows = arrays["genes"] if kind == "macro" else 3 - arrays["genes"]
    place = {text(kind, row): i for i, row in enumerate(rows.tolist())}
    genes = space.random(Noise([4]), 40)[0]
    expected = [place[space.describe(row)] for row in genes]
    for task, measure in {"jigsaw": "top1", "autoencoder": "ssim", "room_layout": "neg_loss"}.items():
        for oracle in ("valid", "test", "train"):
            fitness = BenchmarkFitness(path, task, oracle=oracle)  # type: ignore[arg-type]
            fitness.setup(space)
            assert fitness.score(genes).tolist() == arrays[f"{task}/{oracle}/{measure}"][expected].tolist()
    table = load_table(path)
    assert table.row[space.code(genes)].tolist() == expected
    assert table.metric("class_scene/train_seconds")[space.code(genes)].tolist() == (
        arrays["class_scene/train_seconds"][expected].tolist()
    )


def test_test_values_are_revealed_after_generation_only(tmp_path: Path) -> None:
    arrays = made_up("macro")
    fitness = BenchmarkFitness(saved(tmp_path, arrays), "class_scene")
    fitness.setup(SPACES["macro"])
    genes = SPACES["macro"].parse("64-1234-basic")[None]
    row = arrays["genes"].tolist().index([1, 2, 3, 4, 0, 0])
    fitness.generating = True
    with pytest.raises(RuntimeError, match="while generation is under way"):
        fitness.reveal(genes)
    fitness.generating = False
    revealed = {name: value.item() for name, value in fitness.reveal(genes).items()}
    assert revealed == {
        f"class_scene/{split}/best": arrays[f"class_scene/{split}/top1"][row] for split in ("train", "valid", "test")
    }
    with pytest.raises(ValueError, match="no skeleton of transnas101_macro"):
        fitness.reveal(torch.tensor([[0, 0, 0, 0, 0, 0]]))


def test_invalid_skeletons_are_worst_and_not_counted(tmp_path: Path) -> None:
    space = SPACES["macro"]
    fitness = BenchmarkFitness(saved(tmp_path, made_up("macro")), "class_object")
    fitness.setup(space)
    genes = torch.cartesian_prod(*(torch.arange(n) for n in space.cardinalities))
    valid = space.valid(genes)
    assert torch.equal(fitness(genes, valid).isfinite(), valid)
    assert torch.equal(fitness.score(genes).isfinite(), valid)
    assert (fitness.lookups, fitness.evaluations) == (3256, 3256)


def test_epochs_are_refused_where_only_the_best_is_kept(tmp_path: Path) -> None:
    path = saved(tmp_path, made_up("macro"))
    with pytest.raises(ValueError, match=r"no valid accuracy on 'jigsaw' after 25 epochs.*jigsaw: test/best"):
        BenchmarkFitness(path, "jigsaw", epochs=25)
    with pytest.raises(ValueError, match=r"no valid accuracy on 'cifar10'.*class_object: test/best, train/best"):
        BenchmarkFitness(path)


def test_tables_of_the_other_space_are_refused(tmp_path: Path) -> None:
    fitness = BenchmarkFitness(saved(tmp_path, made_up("macro")), "jigsaw")
    with pytest.raises(ValueError, match="table is of transnas101_macro, the search space is transnas101_micro"):
        fitness.setup(SPACES["micro"])


def test_wrong_and_incomplete_tables_say_what_is_wrong(tmp_path: Path) -> None:
    macro, micro = made_up("macro"), made_up("micro")
    fewer = {name: values[3:] for name, values in macro.items()}
    twice = macro["genes"].copy()
    twice[0] = twice[1]
    outside = macro["genes"].copy()
    outside[5] = [1, 1, 1, 1, 0, 0]
    short = {"jigsaw/valid/top1": np.zeros(9)}
    none = {"genes": macro["genes"], "jigsaw/valid/top5": np.zeros(3256)}
    for arrays, problem in (
        (fewer, "3 of 3256 skeletons are missing"),
        ({**macro, "genes": twice}, "1 of 6400 architectures occur more than once"),
        ({**macro, "genes": outside}, r"1 rows are no skeletons of the benchmark, the first is \[1, 1, 1, 1, 0, 0\]"),
        ({**macro, "genes": macro["genes"] + 1}, "genes must be in 0..4, got 1..5"),
        ({**macro, "genes": macro["genes"] / 2}, "must be .* integers, got .* of float64"),
        ({**macro, "genes": macro["genes"][:, :5]}, r"genes must be \(architectures, 6\)"),
        ({**macro, **short}, r"jigsaw/\S+ has shape \(9,\), expected \(3256,\)"),
        (none, "it holds no measure of a task; expected some of class_object/valid/top1"),
        ({**micro, "genes": micro["genes"][:-2]}, "2 of 4096 architectures are missing"),
        ({**micro, "op_names": np.array(["a", "b", "c", "d"])}, "its operations are a, b, c, d, expected none"),
    ):
        with pytest.raises(ValueError, match=problem):
            load_table(saved(tmp_path, arrays))
