"""A folder has one owner, and a killed process gives it back."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ednag.core import ownership
from ednag.core.ownership import Ownership, clean
from ednag.core.storage import atomic_write

HOLD = """
import sys, time, os
from pathlib import Path
from ednag.core.ownership import Ownership
owned = Ownership(Path(sys.argv[1]))
if len(sys.argv) > 2 and os.fork() == 0:
    time.sleep(60)  # a worker that outlives its parent
print(os.getpid(), flush=True)
time.sleep(60)
"""


def holder(folder: Path, *args: str) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), *args], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert int(process.stdout.readline()) == process.pid
    return process


@pytest.mark.slow
@pytest.mark.parametrize("worker", [(), ("worker",)])
def test_another_process_is_named_until_it_is_killed(worker: tuple, tmp_path: Path) -> None:
    process = holder(tmp_path, *worker)
    try:
        with pytest.raises(ValueError, match=f"in use by process {process.pid} on {socket.gethostname()} since 20"):
            Ownership(tmp_path)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    Ownership(tmp_path).release()
    if worker:
        workers = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True).stdout.split()
        for pid in workers:
            os.kill(int(pid), signal.SIGKILL)


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(ownership.fcntl, "lockf", none)
    Ownership(tmp_path).release()
    assert "can't be locked (Operation not supported); make sure that no other process uses it" in caplog.text


@pytest.mark.slow
def test_what_a_kill_left_behind_is_removed(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from ednag.core.storage import atomic_write
def write(stream):
    stream.write(b"half"); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)
atomic_write(Path(sys.argv[1]) / "sub" / "config.yaml", write)
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -signal.SIGKILL
    assert len(list((tmp_path / "sub").iterdir())) == 1
    atomic_write(tmp_path / "sub" / "kept", lambda stream: stream.write(b"x"))
    clean(tmp_path)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["kept"]


def test_a_lock_that_was_removed_is_not_taken_for_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, removed = Ownership._lock, []

    def removed_before_it_is_locked(self: Ownership) -> None:
        if not removed:
            removed.append((tmp_path / ".lock").unlink())
        first(self)

    monkeypatch.setattr(Ownership, "_lock", removed_before_it_is_locked)
    owned = Ownership(tmp_path)
    assert (tmp_path / ".lock").stat().st_size > 0
    owned.remove()
    assert not list(tmp_path.iterdir())


def test_unfinished_files_of_another_owner_are_kept(tmp_path: Path) -> None:
    for name in ("export/.weights.x.part", "001/.last.ckpt.part"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "export/.lock").touch()
    clean(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.part")] == [".weights.x.part"]
