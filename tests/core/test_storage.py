import errno
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ednag.core.storage import atomic_write, load_state, save_state, write_csv, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "file"
    atomic_write(path, lambda stream: stream.write(b"old"))

    def fail(stream) -> None:  # type: ignore[no-untyped-def]
        stream.write(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        atomic_write(path, fail)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_not_a_number_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_states_come_back_and_damaged_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"x": torch.arange(3), "n": 2})
    assert load_state(path)["x"].tolist() == [0, 1, 2]
    content = path.read_bytes()
    place = content.index(torch.arange(3).numpy().tobytes()) + 8
    path.write_bytes(content[:place] + b"\x07" + content[place + 1 :])
    with pytest.raises(ValueError, match=r"state.pt is damaged .*has changed"):
        load_state(path)
    path.write_bytes(content[:50])
    with pytest.raises(ValueError, match="damaged"):
        load_state(path)
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path / "none.pt")


def test_code_in_a_state_never_runs(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"x": Evil()}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="damaged or not a saved state"):
        load_state(tmp_path / "state.pt")
    assert not (tmp_path / "ran").exists()


def test_texts_in_csv_are_never_formulas(tmp_path: Path) -> None:
    rows = [{"name": "=1+1", "a": -1.5, "b": "+x"}, {"name": "plain", "a": 2, "b": "@y"}]
    write_csv(tmp_path / "a.csv", rows)
    assert (tmp_path / "a.csv").read_text() == "name,a,b\n'=1+1,-1.5,'+x\nplain,2,'@y\n"


@contextmanager
def room(size: int) -> Iterator[None]:
    """Let no file grow beyond a size within, as on a full disk."""
    before, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize(
    "write", [lambda path: save_state(path, {"a": torch.zeros(900)}), lambda path: write_json(path, [1] * 900)]
)
def test_a_full_disk_names_the_file_and_keeps_the_old_one(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "state")
    before = (tmp_path / "state").read_bytes()
    with room(500), pytest.raises(OSError, match=r"File too large: '.*/state'$") as raised:
        write(tmp_path / "state")
    assert raised.value.errno == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert (tmp_path / "state").read_bytes() == before
