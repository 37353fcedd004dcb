"""The official NATS-Bench folder: a miniature written here in its format, and files that must be refused."""

import bz2
import collections
import logging
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ednag.benchmarks.importers import unpickling
from ednag.benchmarks.importers.nasbench201 import read_nats_topology
from ednag.benchmarks.importers.unpickling import read_pickle
from ednag.cli.importing import IMPORTERS, import_table

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
SETS = {"cifar10-valid": ("x-valid", "ori-test"), "cifar10": ("ori-test",)}
SETS |= dict.fromkeys(("cifar100", "ImageNet16-120"), ("ori-test", "x-valid", "x-test"))
CELLS = [(4, 2, 1, 2, 1, 1), (3, 3, 4, 1, 3, 1), (0, 0, 0, 1, 0, 0), (1, 0, 0, 0, 1, 0)]


def cell_string(ops: "tuple[int, ...] | np.ndarray") -> str:
    return "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*(OPS[op] for op in ops))


def save(content: object, path: Path, protocol: int = 4) -> None:
    path.write_bytes(bz2.compress(pickle.dumps(content, protocol=protocol), 1))


def trial(
    dataset: str, seed: int, epochs: int, accuracy: "dict[str, float]", flop: Any, params: Any
) -> "dict[str, Any]":
    """One training run, with the fields that the official files have; weights are dropped in the simple files."""
    curves = {f"{name}@{epoch}": 7.0 for name in accuracy for epoch in range(epochs - 1)}
    curves |= {f"{name}@{epochs - 1}": value for name, value in accuracy.items()}
    epoch_times = collections.OrderedDict.fromkeys(range(epochs), 1.5)
    return {
        "name": dataset,
        "net_state_dict": None,
        "train_acc1es": epoch_times,
        "train_acc5es": None,
        "train_losses": epoch_times,
        "train_times": epoch_times,
        "arch_config": {"channel": 16, "num_cells": 5, "arch_str": "", "class_num": 10},
        "params": params,
        "flop": flop,
        "seed": str(seed),
        "epochs": epochs,
        "latency": [0.01],
        "eval_names": list(accuracy),
        "eval_acc1es": curves,
        "eval_times": dict.fromkeys(curves, 0.5),
        "eval_losses": dict.fromkeys(curves, 0.3),
    }


def record(index: int, name: str, epochs: int, seeds: "tuple[int, ...]", sets: "dict[str, tuple[str, ...]]" = SETS):
    results = {}
    for d, (dataset, splits) in enumerate(sets.items()):
        for seed in seeds:
            accuracy = {s: value(index, epochs, seed, d, k) for k, s in enumerate(splits)}
            flop, params = np.float64(15.64737 + index), np.float64(0.129306 + d)
            results[dataset, seed] = trial(dataset, seed, epochs, accuracy, flop, params)
    return {
        "arch_index": index,
        "arch_str": name,
        "all_results": results,
        "dataset_seed": {dataset: list(seeds) for dataset in sets},
        "clear_net_done": True,
    }


def value(index: int, epochs: int, seed: int, dataset: int, split: int) -> float:
    """A distinct made-up accuracy for everything that the format tells apart."""
    return epochs / 10 + seed / 100 + index + dataset / 7 + split / 70


def write_folder(folder: Path, cells: "list[tuple[int, ...]]" = CELLS) -> Path:
    folder.mkdir()
    names = [cell_string(cell) for cell in cells]
    meta = {"meta_archs": names, "total_archs": len(names), "arch2infos": None, "evaluated_indexes": set()}
    save(meta, folder / "meta.pickle.pbz2")
    for index, name in enumerate(names):
        both = {"12": record(index, name, 12, (111, 777)), "200": record(index, name, 200, (777, 888, 999))}
        save(collections.OrderedDict(both), folder / f"{index:06d}.pickle.pbz2")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "NATS-tss-v1_0-3ffb9-simple")


def rewrite(path: Path, change) -> None:
    content = pickle.loads(bz2.decompress(path.read_bytes()))
    change(content)
    save(content, path)


def test_accuracies_are_the_means_over_seeds_after_the_last_epoch(folder):
    arrays = read_nats_topology(folder)
    np.testing.assert_array_equal(arrays["ops"], CELLS)
    assert arrays["op_names"].tolist() == list(OPS)
    assert arrays["edges"].tolist() == [[0, 1], [0, 2], [1, 2], [0, 3], [1, 3], [2, 3]]
    # cells 2 and 3 both pass the input on to the output
    assert len(set(arrays["unique_id"].tolist())) == 3
    assert arrays["unique_id"][2] == arrays["unique_id"][3]
    names = list(SETS)
    for epochs, seeds in ((12, (111, 777)), (200, (777, 888, 999))):
        for key, dataset, split in (
            ("cifar10/valid", "cifar10-valid", "x-valid"),
            ("cifar10/test", "cifar10", "ori-test"),
            ("cifar100/valid", "cifar100", "x-valid"),
            ("cifar100/test", "cifar100", "x-test"),
            ("imagenet16-120/valid", "ImageNet16-120", "x-valid"),
            ("imagenet16-120/test", "ImageNet16-120", "x-test"),
        ):
            d, k = names.index(dataset), SETS[dataset].index(split)
            expected = [np.mean([value(i, epochs, s, d, k) for s in seeds]) for i in range(len(CELLS))]
            column = arrays[f"{key}/{epochs}"]
            assert column.dtype == np.float32
            np.testing.assert_allclose(column, expected, rtol=1e-6)
    np.testing.assert_array_equal(arrays["cifar10/flops"], [15647370 + 1000000 * i for i in range(4)])
    np.testing.assert_array_equal(arrays["imagenet16-120/params"], [3129306] * 4)
    assert arrays["cifar100/params"].dtype == np.int32


def test_the_layout_is_that_of_the_shipped_table(folder, nasbench201):
    arrays = read_nats_topology(folder)
    assert set(arrays) >= set(nasbench201)
    for name, column in nasbench201.items():
        assert arrays[name].dtype == column.dtype, name
        assert arrays[name].shape[1:] == column.shape[1:], name


def test_where_seeds_disagree_on_costs_seed_888_counts(folder, caplog):
    def stale(content):
        content["200"]["all_results"]["cifar10", 777]["flop"] = np.float64(1.0)
        content["200"]["all_results"]["cifar100", 999]["params"] = 0.5
        del content["200"]["all_results"]["cifar100", 888]
        content["200"]["dataset_seed"]["cifar100"] = [777, 999]

    rewrite(folder / "000001.pickle.pbz2", stale)
    with caplog.at_level(logging.WARNING):
        arrays = read_nats_topology(folder)
    assert arrays["cifar10/flops"][1] == 16647370
    assert arrays["cifar100/params"][1] == 500000
    assert "seeds disagree on params" in caplog.text


def test_a_data_set_that_no_file_has_is_left_out(tmp_path):
    folder = write_folder(tmp_path / "official")
    for path in folder.glob("0*.pbz2"):
        rewrite(path, lambda content: [content[hp]["dataset_seed"].pop("ImageNet16-120") for hp in content])
    arrays = read_nats_topology(folder)
    assert not any(name.startswith("imagenet") for name in arrays)
    assert "cifar100/test/200" in arrays


def test_a_data_set_that_one_file_lacks_is_an_error(folder):
    rewrite(folder / "000002.pickle.pbz2", lambda content: content["12"]["dataset_seed"].pop("cifar100"))
    with pytest.raises(ValueError, match=r"000002\.pickle\.pbz2 has no cifar100/valid/12"):
        read_nats_topology(folder)


class RunsCode:
    """Pickles into a call, as a hostile file would."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("place", ["meta.pickle.pbz2", "000001.pickle.pbz2"])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_file_that_runs_code_is_refused_and_nothing_runs(folder, tmp_path, place, protocol):
    marker = tmp_path / "ran"
    attacks = {
        "system": RunsCode(os.system, f"touch {marker}"),
        "eval": RunsCode(eval, f"open({str(marker)!r}, 'w')"),
        "mkdir": RunsCode(os.mkdir, str(marker)),
        "getattr": RunsCode(getattr, "text", "__class__"),
    }
    for name, attack in attacks.items():
        save({"12": attack, "meta_archs": attack}, folder / place, protocol)
        with pytest.raises(ValueError, match=rf"{place}.*asks for .*{name}.*not part of the format"):
            read_nats_topology(folder)
        assert not marker.exists()


def test_a_refused_module_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "sneaky_module.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "x.pbz2").write_bytes(bz2.compress(b"csneaky_module\nanything\n."))
    with pytest.raises(ValueError, match=r"asks for sneaky_module\.anything"):
        read_pickle(tmp_path / "x.pbz2")
    assert not (tmp_path / "ran").exists()
    assert "sneaky_module" not in sys.modules


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8c\x0bcollections\x8c\x20OrderedDict.__init__.__globals__\x93.",  # dotted names
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy\ndtype\n(S'O8'\ntR.",  # arrays of objects
        b"Pname\n.",  # persistent identifiers
        b"\x80\x04\x82\x01.",  # extension registry
    ],
)
def test_other_ways_out_of_the_format_are_refused(tmp_path, content):
    (tmp_path / "x.pbz2").write_bytes(bz2.compress(content))
    with pytest.raises(ValueError, match=r"x\.pbz2 is damaged or not an official benchmark file"):
        read_pickle(tmp_path / "x.pbz2")


def test_numbers_and_containers_come_through(tmp_path):
    content = collections.OrderedDict(
        a=[1, 2.5, None, True, "text", b"raw"],
        b={np.float64(0.1): np.float32(2.5), (1, "x"): np.int64(-7), "big": np.dtype(">i4").type(3)},
        c={1, 2},
    )
    for protocol in (4, 5):  # the official files have protocol 4
        save(content, tmp_path / "x.pbz2", protocol)
        got = read_pickle(tmp_path / "x.pbz2")
        assert got == content
        assert {type(number) for number in got["b"].values()} == {float, int}


@pytest.mark.parametrize("place", ["meta.pickle.pbz2", "000003.pickle.pbz2"])
def test_truncated_files_are_one_clear_error(folder, tmp_path, place):
    content = (folder / place).read_bytes()
    unpacked = bz2.decompress(content)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    for damaged in (
        content[: len(content) // 2],
        content[:5],
        b"",
        bytes(flipped),
        b"text",
        bz2.compress(unpacked[:-9]),
    ):
        (folder / place).write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{place} is damaged or not an official benchmark file"):
            import_table("nasbench201", folder, tmp_path / "out" / "table.npz")
        assert not (tmp_path / "out").exists()


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpickling, "LARGEST", 1000)
    save("x" * 900, tmp_path / "x.pbz2")
    assert read_pickle(tmp_path / "x.pbz2") == "x" * 900
    save("x" * 1000, tmp_path / "x.pbz2")
    with pytest.raises(ValueError, match="unpacks to more than"):
        read_pickle(tmp_path / "x.pbz2")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: c["200"].update(arch_index=3), r"it is architecture 3 .* the list says 1"),
        (lambda c: c["12"].update(arch_str=cell_string(CELLS[0])), r"it is architecture 1 .*avg_pool"),
        (lambda c: c.pop("12"), r"lacks a part of the official format \(KeyError: '12'\)"),
        (lambda c: c["12"]["all_results"].pop(("cifar10", 777)), "lacks a part .*KeyError"),
        (lambda c: c["12"]["all_results"]["cifar10", 777].update(eval_acc1es=None), "lacks a part .*TypeError"),
        (lambda c: c["200"]["all_results"]["cifar10", 777].update(epochs=90), "trained for 90 epochs, expected 200"),
        (
            lambda c: c["12"]["all_results"]["cifar100", 111]["eval_acc1es"].update({"x-test@11": 130.0}),
            "outside 0..100",
        ),
        (
            lambda c: c["12"]["all_results"]["cifar100", 111]["eval_acc1es"].update({"x-test@11": np.nan}),
            "outside 0..100",
        ),
        (lambda c: c["200"]["all_results"]["cifar10", 777].update(flop=float("inf")), "lacks a part .*Overflow"),
    ],
)
def test_contradictions_name_the_file(folder, change, problem):
    rewrite(folder / "000001.pickle.pbz2", change)
    with pytest.raises(ValueError, match=rf"000001\.pickle\.pbz2.*{problem}"):
        read_nats_topology(folder)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|"], "unknown operation 'conv'"),
        (["8:8:8:8:8"], "size space"),
        ([cell_string(CELLS[0])] * 2, "lists an architecture twice"),
        ([], "no list of architectures"),
        ([1, 2], "no list of architectures"),
    ],
)
def test_a_wrong_list_of_architectures_is_refused(folder, names, problem):
    save({"meta_archs": names}, folder / "meta.pickle.pbz2")
    with pytest.raises(ValueError, match=rf"meta\.pickle\.pbz2.*{problem}"):
        read_nats_topology(folder)


def test_absent_sources_say_what_was_expected(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the unpacked folder NATS-tss-v1_0-3ffb9-simple"):
        import_table("nasbench201", tmp_path / "nowhere")
    (folder / "000002.pickle.pbz2").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"holds 3 of the 4 files of the release, 000002\.pickle\.pbz2 is the first"
    ):
        import_table("nasbench201", folder)
    with pytest.raises(
        ValueError, match="ofa_mobilenetv3 has no importer; these have one: nasbench101, metad2a, nasbench301"
    ):
        import_table("ofa_mobilenetv3", folder)
    with pytest.raises(ValueError, match=r"no data called 'imagenet' .*; known: nasbench201"):
        import_table("imagenet", folder)


def test_a_part_of_the_benchmark_is_not_written(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="lists 4 architectures, nasbench201 has 15625"):
        import_table("nasbench201", folder)
    assert not (tmp_path / "data").exists()


def test_the_table_is_written_where_the_catalogue_looks(folder, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(IMPORTERS, "nasbench201", (read_nats_topology, len(CELLS)))
    with caplog.at_level(logging.INFO):
        path = import_table("nasbench201", folder)
    assert path == Path("data/downloads/nasbench201.npz")
    assert "read 4 of 4 architectures" in caplog.text
    with np.load(path, allow_pickle=False) as table:
        expected = read_nats_topology(folder)
        assert set(table.files) == set(expected)
        for name in table.files:
            np.testing.assert_array_equal(table[name], expected[name])
    assert import_table("nasbench201", folder, tmp_path / "elsewhere.npz") == tmp_path / "elsewhere.npz"
    assert [p.name for p in path.parent.iterdir()] == ["nasbench201.npz"]


def test_the_size_space_is_recognised(folder):
    rewrite(folder / "meta.pickle.pbz2", lambda meta: meta.update(meta_archs=["8:8:8:8:8", "8:8:8:8:16"]))
    with pytest.raises(ValueError, match=r"by their widths \(8:8:8:8:8\): this is NATS-Bench's size space"):
        read_nats_topology(folder)
