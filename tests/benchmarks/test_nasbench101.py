"""NAS-Bench-101 as fitness and its importer, on files that the tests write in the official format by other means."""

import base64
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from ednag.benchmarks.importers.nasbench101 import import_nasbench101
from ednag.benchmarks.importers.tfrecord import masked_crc, read_fields, read_tfrecord
from ednag.benchmarks.nasbench101 import load_nasbench101
from ednag.core.noise import Noise
from ednag.fitness.tabular import NASBench101Fitness
from ednag.spaces import NASBench201
from ednag.spaces.nasbench101 import NASBench101
from tests.conftest import TABLES

SPACE = NASBench101()


def crc32c(data: bytes) -> int:
    """One bit at a time, by the definition."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def frame(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def evaluation(epoch: float, seconds: float, train: float, valid: float, test: float) -> bytes:
    doubles = b"".join(
        bytes([8 * i + 1]) + struct.pack("<d", v) for i, v in enumerate((epoch, seconds, train, valid, test), 1)
    )
    path = b"/model.ckpt-1"
    return doubles + bytes([6 * 8 + 2]) + varint(len(path)) + path


def training(cell: torch.Tensor, epochs: int, valid: float, test: float, seconds: float, params: int) -> bytes:
    bits, labels = SPACE.describe(cell).split(" ")
    parts = [evaluation(0, 0, 0.1, 0.1, 0.1), evaluation(epochs / 2, seconds / 2, 0.5, 0.4, 0.3)]
    parts.append(evaluation(epochs, seconds, 1.0, valid, test))
    message = b"".join(bytes([1 * 8 + 2]) + varint(len(part)) + part for part in parts)
    message += bytes([2 * 8]) + varint(params) + bytes([3 * 8 + 1]) + struct.pack("<d", seconds + 9)
    encoded = base64.b64encode(message).decode()
    return json.dumps([SPACE.module_hash(cell), epochs, bits, labels, encoded]).encode()


CELLS = SPACE.random(Noise([11]), 6)[0]


def records() -> list[bytes]:
    """Three trainings at two lengths of each of four cells, interleaved."""
    return [
        training(CELLS[i], epochs, (50 + i + run) / 100, (40 + i - run) / 100, 10.0 * epochs + run, 1000 * i + 300)
        for run in range(3)
        for epochs in (4, 108)
        for i in range(4)
    ]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("official") / "nasbench_full.tfrecord"
    path.write_bytes(b"".join(map(frame, records())))
    return path


@pytest.fixture(scope="module")
def table(official: Path) -> Path:
    return import_nasbench101(official, official.parent / "nasbench101.npz")


def test_checksums_agree_with_the_definition() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    data = [b"", b"a", b"abc", b"abcd", b"123456789", bytes(100), bytes(range(256))]
    assert [struct.pack("<I", crc) for crc in masked_crc(data).tolist()] == [masked(item) for item in data]


def test_records_come_back_in_order(official: Path) -> None:
    assert list(read_tfrecord(official)) == records()


def test_protobuf_fields_of_every_wire_type() -> None:
    message = bytes([8]) + varint(300) + bytes([2 * 8 + 2, 3]) + b"abc" + bytes([3 * 8 + 5]) + b"wxyz"
    assert list(read_fields(message + bytes([4 * 8 + 1]) + bytes(8))) == [
        (1, 300),
        (2, b"abc"),
        (3, b"wxyz"),
        (4, bytes(8)),
    ]
    for bad in (message[:-1], bytes([8, 255]), bytes([2 * 8 + 2, 9]) + b"abc", bytes([8 + 3])):
        with pytest.raises(ValueError, match="protobuf"):
            list(read_fields(bad))


def test_import_averages_over_trainings(table: Path) -> None:
    _, keys, metrics = load_nasbench101(table)
    order = {key: place for place, key in enumerate(keys.tolist())}
    for i, cell in enumerate(CELLS[:4]):
        place = order[int(SPACE.identity(cell))]
        for epochs in (4, 108):
            assert metrics[f"cifar10/valid/{epochs}"][place] == pytest.approx(51 + i)
            assert metrics[f"cifar10/test/{epochs}"][place] == pytest.approx(39 + i)
        assert metrics["params"][place] == 1000 * i + 300
        assert metrics["train_seconds"][place] == pytest.approx(1081)
    assert len(keys) == 4
    with np.load(table, allow_pickle=False) as file:
        assert [row.tobytes().hex() for row in file["module_hash"]] == [SPACE.module_hash(cell) for cell in CELLS[:4]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-5], "truncated"),
        (lambda raw: raw[:7], "truncated"),
        (lambda raw: raw[:300] + bytes([raw[300] ^ 1]) + raw[301:], "record 0 is damaged"),
        (lambda raw: b"PK" * 50, "not a TFRecord"),
        (lambda raw: b"", "no record"),
        (lambda raw: frame(b"[1, 2]"), "values to unpack"),
        (lambda raw: frame(b"\xff"), "tfrecord"),
        (lambda raw: frame(b"7"), "official"),
        (lambda raw: frame(records()[0].replace(SPACE.module_hash(CELLS[0])[:6].encode(), b"ffffff")), "another hash"),
        (lambda raw: frame(records()[0].replace(b"input,", b"input,gelu,")), "nasbench"),
        (lambda raw: frame(training(CELLS[0], 4, 1.5, 0.4, 1, 1)), "outside 0..1"),
    ],
)
def test_damaged_files_are_refused_and_nothing_is_written(official: Path, tmp_path: Path, change, message: str) -> None:
    path = tmp_path / "nasbench.tfrecord"
    path.write_bytes(change(official.read_bytes()))
    with pytest.raises(ValueError, match=message):
        import_nasbench101(path, tmp_path / "out.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nasbench.tfrecord"]


def test_absent_official_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nasbench_only108"):
        import_nasbench101(tmp_path / "none.tfrecord", tmp_path / "out.npz")


def test_unknown_cells_rank_below_known_ones_and_are_counted(table: Path) -> None:
    fitness = NASBench101Fitness(table, epochs=4)
    fitness.setup(SPACE)
    genes = torch.stack([CELLS, CELLS.flip(0)])
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[1, 5] = False
    values = fitness(genes, valid)
    unknown = torch.tensor(2 * [-torch.inf], dtype=torch.float64)
    torch.testing.assert_close(values[0], torch.cat([torch.tensor([51.0, 52, 53, 54], dtype=torch.float64), unknown]))
    assert values[1].tolist()[:5] == values[0].flip(0).tolist()[:5]
    assert values[1, 5] == -torch.inf
    assert (fitness.lookups, fitness.evaluations, fitness.unknown) == (11, 6, 2)
    resumed = NASBench101Fitness(table, epochs=4)
    resumed.load_state_dict(fitness.state_dict())
    resumed.setup(SPACE)
    assert resumed(genes, valid).equal(values)
    assert (resumed.lookups, resumed.evaluations, resumed.unknown) == (22, 6, 2)
    assert fitness.optimum == pytest.approx(54)
    assert fitness.optimum_keys().tolist() == [int(SPACE.identity(CELLS[3]))]


def test_test_accuracy_is_hidden_while_generating(table: Path) -> None:
    fitness = NASBench101Fitness(table)
    fitness.setup(SPACE)
    fitness.generating = True
    with pytest.raises(RuntimeError, match="generation"):
        fitness.reveal(CELLS)
    fitness.generating = False
    found = fitness.reveal(CELLS)
    assert found["cifar10/test/108"][:4].tolist() == pytest.approx([39, 40, 41, 42])
    assert found["cifar10/test/108"][4:].isnan().all()


def test_tables_and_options_that_do_not_fit_are_refused(table: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="after 36 epochs; it has cifar10/valid/4"):
        NASBench101Fitness(table, epochs=36)
    with pytest.raises(ValueError, match="oracle"):
        NASBench101Fitness(table, oracle="train")
    with pytest.raises(ValueError, match="search space is nasbench201"):
        NASBench101Fitness(table).setup(NASBench201())
    arrays = dict(np.load(table))
    changes = {
        "lacks ops": {"ops": None},
        "cifar10/valid/4 is wrong": {"cifar10/valid/4": arrays["params"][:2]},
        "another cell": {"module_hash": arrays["module_hash"][::-1].copy()},
    }
    for message, change in changes.items():
        np.savez(tmp_path / "bad.npz", **{k: v for k, v in {**arrays, **change}.items() if v is not None})
        with pytest.raises(ValueError, match=message):
            load_nasbench101(tmp_path / "bad.npz")
    (tmp_path / "bad.npz").write_bytes(table.read_bytes()[:400])
    with pytest.raises(ValueError, match="damaged"):
        load_nasbench101(tmp_path / "bad.npz")


def test_the_shipped_sample_is_read() -> None:
    path = TABLES / "nasbench101_sample.npz"
    fitness = NASBench101Fitness(path)
    fitness.setup(SPACE)
    with np.load(path, allow_pickle=False) as file:
        best = int(file["cifar10/valid/108"].argmax())
        top, name = float(file["cifar10/valid/108"][best]), file["module_hash"][best].tobytes().hex()
    assert (fitness.known_cells, fitness.optimum) == (30001, top)
    assert fitness.optimum_keys().tolist() == [int(name, 16) >> 65]
    genes = SPACE.random(Noise([0, 1]), 100)
    values = fitness(genes, SPACE.valid(genes))
    known = values.isfinite()
    assert 0 < known.sum() < 60  # the sample holds one cell in fourteen
    assert ((values[known] > 9) & (values[known] <= top)).all()
    assert fitness.unknown == fitness.evaluations - SPACE.identity(genes[known]).unique().numel()
    with pytest.raises(ValueError, match="no test accuracy"):
        NASBench101Fitness(path, oracle="test")
