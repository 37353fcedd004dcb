"""Benchmark tables as fitness, against plain dictionary look-ups in numpy arrays."""

import copy
import itertools
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import TABLES

from ednag.benchmarks import locate
from ednag.benchmarks.dense import load_table
from ednag.core.storage import load_state, save_state
from ednag.fitness.tabular import BenchmarkFitness
from ednag.spaces import NASBench201

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """A made-up complete table: rows shuffled, operations numbered in another order than the project's."""
    rng = np.random.default_rng(5)
    cells = np.array(list(itertools.product(range(5), repeat=6)), dtype=np.int8)
    rng.shuffle(cells)
    out = {"ops": cells, "op_names": np.array(OPS[::-1]), "edges": np.array(EDGES, dtype=np.int8)}
    out["unique_id"] = np.zeros(15625, dtype=np.int16)
    for name in ("cifar10/valid/200", "cifar10/test/200", "cifar10/valid/12", "cifar100/valid/200"):
        out[name] = rng.uniform(10, 90, 15625).astype(np.float32)
    out["cifar10/params"] = out["imagenet16-120/params"] = rng.integers(1, 100, 15625).astype(np.int32)
    return out


@pytest.fixture(scope="module")
def made_up(arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "made_up.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture
def fitness(made_up: Path) -> BenchmarkFitness:
    out = BenchmarkFitness(made_up)
    out.setup(NASBench201())
    return out


def save_changed(path: Path, arrays: dict[str, np.ndarray], **changes: "np.ndarray | None") -> Path:
    changed = {**arrays, **{name.replace("__", "/"): value for name, value in changes.items()}}
    np.savez(path, **{name: value for name, value in changed.items() if value is not None})
    return path


def some_genes(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 5, (n, 6), generator=torch.Generator().manual_seed(seed))


def reference(table: dict[str, np.ndarray], metric: str) -> dict[str, float]:
    """Value of each cell, by its string, written as the benchmark writes it."""
    names = [str(name) for name in table["op_names"]]
    return dict(zip(map(tuple, np.array(names)[table["ops"]].tolist()), table[metric].tolist(), strict=True))


@pytest.mark.parametrize("metric", ["cifar10/valid/200", "cifar10/test/200", "cifar10/valid/12", "cifar100/valid/200"])
def test_values_are_those_of_the_rows_whatever_their_order(made_up, arrays, metric):
    dataset, split, epochs = metric.split("/")
    fitness = BenchmarkFitness(str(made_up), dataset, int(epochs), split)
    fitness.setup(NASBench201())
    genes = some_genes(500)
    known = reference(arrays, metric)
    expected = [known[tuple(OPS[gene] for gene in row)] for row in genes.tolist()]
    got = fitness(genes.view(10, 50, 6), torch.ones(10, 50, dtype=torch.bool))
    assert got.dtype == torch.float64
    assert got.flatten().tolist() == expected
    assert fitness.score(genes).tolist() == expected
    assert ("oracle" in fitness.name) == (split == "test")


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
@pytest.mark.parametrize(("split", "epochs"), [("valid", 200), ("valid", 12), ("test", 200)])
def test_every_cell_of_the_real_table(nasbench201, dataset, split, epochs):
    fitness = BenchmarkFitness(TABLES / "nasbench201.npz", dataset, epochs, split)
    fitness.setup(NASBench201())
    # rows in a random order, in a batch of runs
    order = np.random.default_rng(1).permutation(15625)
    genes = torch.from_numpy(nasbench201["ops"][order]).long().view(125, 125, 6)
    got = fitness(genes, torch.ones(125, 125, dtype=torch.bool))
    np.testing.assert_array_equal(got.flatten().numpy(), nasbench201[f"{dataset}/{split}/{epochs}"][order])
    assert fitness.evaluations == len(np.unique(nasbench201["unique_id"])) == 6466
    assert fitness.lookups == 15625


def test_optimum_of_the_real_table(nasbench201):
    fitness = BenchmarkFitness(TABLES / "nasbench201.npz")
    space = NASBench201()
    fitness.setup(space)
    best = int(nasbench201["cifar10/valid/200"].argmax())
    assert fitness.optimum == pytest.approx(91.607, abs=1e-3)
    ids = nasbench201["unique_id"]
    genes = torch.from_numpy(nasbench201["ops"]).long()
    found = torch.isin(space.identity(genes), fitness.optimum_keys())
    np.testing.assert_array_equal(found.numpy(), ids == ids[best])
    # tied best cells of different classes are all optima
    tied = np.unique(ids[nasbench201["cifar100/valid/12"] == nasbench201["cifar100/valid/12"].max()])
    assert len(fitness.table.optimum_keys("cifar100/valid/12", space)) == len(tied) == 2
    # the honest optimum of the protocol: test accuracy of the cell that is best by validation
    reported = fitness.reveal(genes[best][None])["cifar10/test/200"]
    assert reported.item() == pytest.approx(94.37, abs=0.005)


def test_row_is_the_official_index(nasbench201):
    table = load_table(TABLES / "nasbench201.npz")
    np.testing.assert_array_equal(nasbench201["ops"][table.row.numpy()], table.genes.numpy())


def test_invalid_architectures_score_minus_infinity_and_are_not_counted(fitness):
    genes = some_genes(6)
    genes[1, 0], genes[4, 3] = 99, -7
    valid = torch.tensor([True, False, True, True, False, True])
    got = fitness(genes, valid)
    assert got.isneginf().tolist() == (~valid).tolist()
    assert torch.equal(got[valid], fitness.score(genes[valid]))
    assert fitness.lookups == 4
    assert fitness(genes[:0], valid[:0]).shape == (0,)
    assert fitness(genes, torch.zeros(6, dtype=torch.bool)).isneginf().all()
    assert fitness.lookups == 4


def test_isomorphic_cells_are_counted_once_over_all_runs_but_keep_their_own_values(fitness, arrays):
    space = NASBench201()
    # the input copied to the last node over edge (0, 3) or over (0, 1) and (1, 3)
    twins = torch.stack(
        [
            space.parse("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"),
            space.parse("|skip_connect~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"),
        ]
    )
    got = fitness(twins.expand(3, 2, 6), torch.ones(3, 2, dtype=torch.bool))
    assert (fitness.lookups, fitness.evaluations) == (6, 1)
    assert got[0, 0] != got[0, 1]
    genes = some_genes(400)
    fitness(genes.view(4, 100, 6), torch.ones(4, 100, dtype=torch.bool))
    distinct = set(space.identity(torch.cat([twins, genes])).tolist())
    assert (fitness.lookups, fitness.evaluations) == (406, len(distinct))


def test_unknown_architectures_of_an_incomplete_column_are_worst(arrays, tmp_path):
    values = arrays["cifar10/valid/200"].copy()
    values[7] = np.nan
    fitness = BenchmarkFitness(save_changed(tmp_path / "t.npz", arrays, cifar10__valid__200=values))
    fitness.setup(NASBench201())
    genes = torch.from_numpy(4 - arrays["ops"][:10]).long()
    assert fitness(genes, torch.ones(10, dtype=torch.bool)).isneginf().nonzero().tolist() == [[7]]
    assert fitness.optimum == np.nanmax(values)


def test_test_metrics_are_refused_while_generating(fitness, arrays):
    genes = some_genes(5)
    fitness.generating = True
    fitness(genes, torch.ones(5, dtype=torch.bool))
    with pytest.raises(RuntimeError, match="while generation is under way"):
        fitness.reveal(genes)
    fitness.generating = False
    revealed = fitness.reveal(genes)
    assert set(revealed) == {"cifar10/test/200", "cifar10/valid/200", "cifar10/valid/12"}
    known = reference(arrays, "cifar10/test/200")
    assert revealed["cifar10/test/200"].tolist() == [known[tuple(OPS[g] for g in row)] for row in genes.tolist()]
    with pytest.raises(ValueError, match=r"gene 2 of nasbench201 must be in 0\.\.4, got 9"):
        fitness.reveal(torch.tensor([[0, 0, 9, 0, 0, 0]]))


def test_counts_survive_a_checkpoint(fitness, made_up, tmp_path):
    fitness(some_genes(100), torch.ones(100, dtype=torch.bool))
    save_state(tmp_path / "state.pt", fitness.state_dict())
    state = load_state(tmp_path / "state.pt")
    fitness(some_genes(100, seed=1), torch.ones(100, dtype=torch.bool))
    before, after = BenchmarkFitness(made_up), BenchmarkFitness(made_up)
    before.load_state_dict(copy.deepcopy(state))
    before.setup(NASBench201())
    after.setup(NASBench201())
    after.load_state_dict(state)
    for resumed in (before, after):
        resumed(some_genes(100, seed=1), torch.ones(100, dtype=torch.bool))
        assert (resumed.lookups, resumed.evaluations) == (fitness.lookups, fitness.evaluations)
    state["seen"] = torch.zeros(9, dtype=torch.bool)
    with pytest.raises(ValueError, match="another benchmark table"):
        after.load_state_dict(state)


def test_setup_inside_inference_mode_works_outside_of_it_too(made_up):
    fitness = BenchmarkFitness(made_up)
    with torch.inference_mode():
        fitness.setup(NASBench201())
        fitness(some_genes(3), torch.ones(3, dtype=torch.bool))
    fitness(some_genes(3), torch.ones(3, dtype=torch.bool))
    assert fitness.lookups == 6


def test_a_thousand_runs_of_sixty_are_one_fast_gather(fitness):
    genes = some_genes(60_000).view(1000, 60, 6)
    valid = torch.ones(1000, 60, dtype=torch.bool)
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        got = fitness(genes, valid)
        seconds.append(time.perf_counter() - start)
    assert got.shape == (1000, 60)
    assert min(seconds) < 0.05  # about 2 ms on an idle core; a look-up an architecture would take seconds


@pytest.mark.gpu
def test_the_table_on_a_gpu(made_up, fitness):
    other = BenchmarkFitness(made_up)
    other.setup(NASBench201(), device="cuda")
    genes, valid = some_genes(1000), some_genes(1000)[:, 0] > 0
    got = other(genes.cuda(), valid.cuda())
    assert got.is_cuda
    assert torch.equal(got.cpu(), fitness(genes, valid))
    assert (other.lookups, other.evaluations) == (fitness.lookups, fitness.evaluations)


class OtherSpace(NASBench201):
    name = "other"


def test_a_table_of_another_space_is_refused(made_up):
    with pytest.raises(ValueError, match="table is of nasbench201, the search space is other"):
        BenchmarkFitness(made_up).setup(OtherSpace())


def test_scoring_before_setup_says_so(made_up):
    with pytest.raises(RuntimeError, match="setup"):
        BenchmarkFitness(made_up)(some_genes(1), torch.tensor([True]))


def test_unknown_requests_list_what_the_table_has(made_up):
    listed = re.escape("cifar10: test/200, valid/12, valid/200; cifar100: valid/200")
    with pytest.raises(ValueError, match=f"no valid accuracy on 'svhn'. It.*{listed}"):
        BenchmarkFitness(made_up, "svhn")
    with pytest.raises(ValueError, match=f"no valid accuracy on 'cifar100' after 90 epochs.*{listed}"):
        BenchmarkFitness(made_up, "cifar100", epochs=90)
    with pytest.raises(ValueError, match=f"no test accuracy on 'cifar100'.*{listed}"):
        BenchmarkFitness(made_up, "cifar100", oracle="test")
    with pytest.raises(ValueError, match=f"holds no accuracy on imagenet16-120, only params.*{listed}"):
        BenchmarkFitness(made_up, "imagenet16-120")
    with pytest.raises(ValueError, match="oracle must be 'valid', 'test' or 'train', got 'best'"):
        BenchmarkFitness(made_up, oracle="best")
    with pytest.raises(ValueError, match="no 'speed'"):
        load_table(made_up).best("speed")


def test_damaged_files_are_one_clear_error(made_up, arrays, tmp_path):
    content = made_up.read_bytes()
    flipped, long = bytearray(content), bytearray(content)
    flipped[content.index(arrays["cifar10/test/200"].tobytes()) + 999] ^= 0xFF
    long[content.index(b"cifar10/valid/12.npy") - 4] ^= 0xFF  # length of a name, as its header says
    for name, damaged in {
        "half": content[: len(content) // 2],
        "no_end": content[:-30],
        "flipped": bytes(flipped),
        "long": bytes(long),
        "empty": b"",
        "text": b"architecture,accuracy\n",
    }.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{name}\.npz is damaged or not a benchmark table") as caught:
            BenchmarkFitness(path)
        assert len(str(caught.value)) < 400


def test_object_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "objects.npz", ops=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"objects\.npz is damaged or not"):
        load_table(tmp_path / "objects.npz")


def test_incomplete_and_foreign_tables_say_what_is_wrong(arrays, tmp_path):
    path = tmp_path / "t.npz"
    twice = arrays["ops"].copy()
    twice[0] = twice[1]
    fewer = {name: value if value.shape[0] != 15625 else value[:-3] for name, value in arrays.items()}
    for changes, problem in (
        ({"ops": twice}, "1 of 15625 architectures occur more than once"),
        ({"cifar10__valid__12": np.zeros(3)}, r"cifar10/valid/12 has shape \(3,\), expected \(15625,\)"),
        ({"ops": arrays["ops"] + 1}, "indices in 0..4"),
        ({"op_names": np.array(["a", "b", "c", "d", "e"])}, "its operations are a, b, c, d, e, expected none"),
        ({"edges": np.zeros((6, 2))}, "its edges are"),
        ({"op_names": None}, "not a complete table of nasbench201: it lacks op_names"),
        ({"ops": None}, "the layout of no table known here"),
    ):
        with pytest.raises(ValueError, match=problem):
            load_table(save_changed(path, arrays, **changes))
    with pytest.raises(ValueError, match="3 of 15625 architectures are missing"):
        load_table(save_changed(path, fewer))


def test_a_real_table_of_another_layout_is_refused():
    for name, reader in {
        "ofa_mobilenetv3": "cost.latency_table",
        "nasbench201_latency": "cost.latency_table",
        "nasbench101_sample": "NASBench101Fitness",
    }.items():
        layout = name.removesuffix("_sample")
        with pytest.raises(ValueError, match=rf"{name}\.npz is a table of {layout}, .* is for .*{reader}"):
            BenchmarkFitness(TABLES / f"{name}.npz")


def test_the_catalogue_finds_the_table(made_up, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locate, "SHIPPED", tmp_path / "nowhere")
    monkeypatch.setenv("EDNAG_DATA", str(tmp_path / "mine"))
    with pytest.raises(FileNotFoundError, match=r"nasbench201 is absent.*ednag data list"):
        BenchmarkFitness("nasbench201")
    with pytest.raises(FileNotFoundError, match=r"no benchmark table at gone\.npz; `ednag data list`"):
        BenchmarkFitness("gone.npz")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "nasbench201.npz").symlink_to(made_up)
    assert BenchmarkFitness("nasbench201").table.space == "nasbench201"


def test_the_benchmarks_own_spellings_of_columns_and_data_sets(arrays, tmp_path):
    spelled = {
        "ops": arrays["ops"],
        "op_names": arrays["op_names"],
        "cifar10-valid/x-valid/200": arrays["cifar10/valid/200"],
        "CIFAR-10/ori-test/200": arrays["cifar10/test/200"],
        "cifar10-valid/ori-test/200": arrays["cifar10/test/200"] - 1,  # trained on half of the images
        "ImageNet16-120/x-valid/200": arrays["cifar100/valid/200"],
        "ImageNet16-120/FLOPs": arrays["imagenet16-120/params"],
    }
    np.savez(tmp_path / "spelled.npz", **spelled)
    metrics = load_table(tmp_path / "spelled.npz").metrics
    assert sorted(metrics) == [
        "cifar10-valid/ori-test/200",
        "cifar10/test/200",
        "cifar10/valid/200",
        "imagenet16-120/flops",
        "imagenet16-120/valid/200",
    ]
    fitness = BenchmarkFitness(tmp_path / "spelled.npz", "ImageNet16-120")
    assert fitness.metric == "imagenet16-120/valid/200"
    assert (fitness.dataset, fitness.name) == (
        "imagenet16-120",
        "nasbench201 imagenet16-120 valid accuracy after 200 epochs, %",
    )
    np.savez(tmp_path / "twice.npz", **spelled, **{"cifar10/valid/200": arrays["cifar10/valid/200"]})
    with pytest.raises(ValueError, match=r"cifar10-valid/x-valid/200 and cifar10/valid/200 are the same"):
        load_table(tmp_path / "twice.npz")


def test_a_table_that_shadows_the_shipped_one_is_named_in_the_message(made_up, tmp_path, monkeypatch):
    (tmp_path / "nasbench201.npz").symlink_to(made_up)
    monkeypatch.setenv("EDNAG_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=re.escape(f"the table {tmp_path / 'nasbench201.npz'} holds no accuracy on")):
        BenchmarkFitness("nasbench201", "ImageNet16-120")


def test_a_data_set_by_the_benchmark_s_name_for_its_validation_networks():
    named, ours = BenchmarkFitness("nasbench201", "cifar10-valid"), BenchmarkFitness("nasbench201", "cifar10")
    assert (named.metric, named.dataset, named.name) == (ours.metric, ours.dataset, ours.name)
    with pytest.raises(ValueError, match="no test accuracy on 'cifar10-valid'"):  # another measurement than cifar10's
        BenchmarkFitness("nasbench201", "cifar10-valid", oracle="test")
    with pytest.raises(ValueError, match=r"no valid accuracy on 'cifra10' \(did you mean cifar10"):
        BenchmarkFitness("nasbench201", "cifra10")
