"""Executors: lazy, the same results on each, and what becomes of calls whose workers die, hang or differ."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import cloudpickle
import pytest

from ednag.execution import Call, Executor, InProcess, Outcome, Processes, Ray, Resources, note
from ednag.execution import ray as on_ray
from ednag.execution.files import pack, unpack
from ednag.execution.reachable import refuse_silent
from ednag.execution.worker import Parcel, differing, versions

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers can't import tests


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray that is started once for all tests here."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def work(root: Path, common: int, what: str) -> int:
    """Do something good or bad, and leave a file."""
    print("at", what)  # noqa: T201 (into the log)
    note("half of it")
    (root / what).mkdir(exist_ok=True)
    tries = (root / what / "tries.txt").open("a")
    tries.write("x")
    tries.close()
    if what == "raises":
        raise KeyError(what)
    if what == "odd":
        raise Odd(1, 2)
    if what == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hangs once" and (root / what / "tries.txt").read_text() == "x":
        time.sleep(600)
    if what == "too large":
        raise MemoryError("no more memory")
    return common + len(what)


class Odd(Exception):  # noqa: N818
    """An exception that can be pickled, but not unpickled."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


BAD = ["raises", "odd", "dies", "hangs once", "too large"]


def calls(*names: str) -> Iterator[Call]:
    for name in names:
        yield Call(name, work, (name,), writes=(Path(name),), log=Path(name) / "log.txt")


def check_faults(executor: Executor, root: Path) -> None:
    """Everything ends, as it should, after as many attempts as it may have."""
    executor.check(root)
    outcomes = {outcome.call.name: outcome for outcome in executor.run(calls("good", *BAD, "fine"), root, 100)}
    assert {name: outcome.value for name, outcome in outcomes.items() if outcome.failure is None} == {
        "good": 104, "fine": 104, "hangs once": 110,
    }  # fmt: skip
    kinds = {name: (o.failure.kind, o.attempts) for name, o in outcomes.items() if o.failure is not None}
    assert kinds == {
        "raises": ("raised", 1), "odd": ("raised", 1), "dies": ("lost", 2), "too large": ("memory", 2),
    }  # fmt: skip
    with pytest.raises(KeyError, match="raises"):
        outcomes["raises"].result()
    with pytest.raises(RuntimeError, match="Odd: 1 and 2"):
        outcomes["odd"].result()
    with pytest.raises(RuntimeError, match=r"dies: the .* \(2 attempts\)"):
        outcomes["dies"].result()
    assert "at good" in (root / "good/log.txt").read_text()
    assert "KeyError: 'raises'" in (root / "raises/log.txt").read_text()
    assert "in work" in (root / "hangs once/log.txt").read_text()  # where it hung
    assert (root / "dies/tries.txt").read_text() == "xx"
    assert outcomes["hangs once"].attempts == 2
    assert not list(root.rglob("*.note"))


@pytest.mark.slow
def test_processes_survive_faults(tmp_path: Path) -> None:
    check_faults(Processes(workers=1, retries=1, time_limit=2), tmp_path)


@pytest.mark.slow
def test_ray_survives_faults(tmp_path: Path, cluster: None) -> None:
    check_faults(Ray(workers=1, retries=1, time_limit=2), tmp_path)


@pytest.mark.slow
def test_without_a_shared_file_system_files_come_back(tmp_path: Path, cluster: None) -> None:
    executor = Ray(workers=1, retries=0, shared=False)
    (tmp_path / "good").mkdir()
    (tmp_path / "good/tries.txt").write_text("earlier ")
    found = {outcome.call.name: outcome.value for outcome in executor.run(calls("good", "fine"), tmp_path, 1)}
    assert found == {"good": 5, "fine": 5}
    assert (tmp_path / "good/tries.txt").read_text() == "earlier x"  # what there was went along
    assert "at fine" in (tmp_path / "fine/log.txt").read_text()


def test_mistakes_with_ray_are_told(tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"needs 1 cores and 2 GPUs, which no node .* has \(2 cores, 0 GPUs\)"):
        Ray(resources=Resources(cpu=1, gpu=2)).check(tmp_path)
    with pytest.raises(ValueError, match=r"5 workers of 1 cores .* use at most --executor.workers 2"):
        Ray(workers=5).check(tmp_path)
    monkeypatch.setattr(on_ray, "_look", lambda path, content: (versions(), False))
    with pytest.raises(ValueError, match=r"can't see .*--executor.shared false"):
        Ray(workers=1).check(tmp_path)
    Ray(workers=1, shared=False).check(tmp_path)
    monkeypatch.setattr(on_ray, "_look", lambda path, content: ({**versions(), "torch": "1.0"}, True))
    with pytest.raises(ValueError, match=r"Ray node .* has torch 1.0 \(here .*install the same there"):
        Ray(workers=1).check(tmp_path)
    assert not list(tmp_path.iterdir())


def test_mistakes_without_ray_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"2 workers of 1000 cores .* are more than there are .*; use smaller"):
        Processes(workers=2, resources=Resources(cpu=1000)).check(tmp_path)
    for wrong in ({"workers": 0}, {"retries": -1}, {"time_limit": 0.0}):
        for kind in (Processes, Ray):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                kind(**wrong)
    for resources in ({"cpu": 0}, {"gpu": -1}, {"gpu": 1.5}):
        with pytest.raises(ValueError, match="gpu"):
            Resources(**resources)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ednag\[ray\]'"):
        Ray().check(tmp_path)


def test_an_address_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ValueError, match=r"no Ray answers at 127.0.0.1:1 \(.*refused"):
        Ray(address="127.0.0.1:1").check(tmp_path)
    with pytest.raises(ValueError, match="HOST:PORT or auto, got 'nowhere'"):
        Ray(address="nowhere").check(tmp_path)


def test_an_address_where_something_else_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.0 400 Bad request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ValueError, match=r"what answers at 127.0.0.1:\d+ is no Ray"):
            Ray(address=f"127.0.0.1:{server.getsockname()[1]}").check(tmp_path)
        thread.join()
    with pytest.raises(ValueError, match=r"no Ray answers at 127.0.0.1:99999999999"):
        Ray(address="127.0.0.1:99999999999").check(tmp_path)


def test_the_address_of_a_ray_is_known_as_one(cluster: None) -> None:
    ray = pytest.importorskip("ray")
    address = ray.get_runtime_context().gcs_address
    refuse_silent(address)  # raises for what is none
    with pytest.raises(ValueError, match="no Ray answers"):
        refuse_silent(f"{address.rpartition(':')[0]}:1")


def test_a_ray_that_does_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray, ended = pytest.importorskip("ray"), []

    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append(1))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(
        ValueError, match=r"Ray does not start on this machine: The current node timed out .* could happen"
    ):
        Ray().check(tmp_path)
    assert ended == [1] * on_ray.STARTS


def test_a_ray_of_its_own_is_started_once_and_ended_after_its_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray, told = pytest.importorskip("ray"), []
    monkeypatch.setattr(ray, "is_initialized", lambda: told.count("start") > told.count("end"))
    monkeypatch.setattr(ray, "init", lambda **_: told.append("start"))
    monkeypatch.setattr(ray, "shutdown", lambda: told.append("end"))
    monkeypatch.setattr(on_ray, "_Tasks", lambda *_: Instant())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    executor = Ray(workers=1)
    for name in ("_fit", "_probe"):
        monkeypatch.setattr(executor, name, lambda *_, name=name: told.append(name))
    executor.check(tmp_path)
    executor.check(tmp_path)
    assert told == ["start", "_fit", "_probe"]
    with executor.opened(tmp_path, None):
        executor.check(tmp_path / "other")
    assert told == ["start", "_fit", "_probe", "_fit", "_probe", "end"]
    monkeypatch.setattr(executor, "_probe", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        executor.check(tmp_path / "third")
    assert told[-3:] == ["start", "_fit", "end"]


def test_what_differs_is_named() -> None:
    assert differing(versions(), "here") == ""
    assert differing({**versions(), "the text of ednag": "0"}, "node 1").startswith(
        "node 1 has the text of ednag 0 (here "
    )


def test_calls_are_taken_one_at_a_time_and_may_depend_on_outcomes(tmp_path: Path) -> None:
    seen: list[int] = []

    def following() -> Iterator[Call | None]:
        for _ in range(3):
            yield Call(f"{len(seen)}", lambda root, common, n: n + 1, (seen[-1] if seen else 0,))
        yield None  # nothing until another has ended; nothing runs, so this is the end
        raise AssertionError

    for outcome in InProcess().run(following(), tmp_path):
        seen.append(outcome.result())  # noqa: PERF401 (the calls look at it meanwhile)
    assert seen == [1, 2, 3]


class Instant(Processes):
    """Workers that do nothing: each call has ended when it is waited for."""

    def opened(self, root: Path, common: object) -> "Instant":  # type: ignore[override]
        self.open, self.most = 0, 0
        return self

    def end(self) -> None:
        pass

    def __enter__(self) -> "Instant":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, call: Call) -> Call:
        self.open += 1
        self.most = max(self.most, self.open)
        return call

    def wait(self, handles: dict[Call, object], seconds: float) -> list[Call]:
        return [next(iter(handles))]

    def outcome(self, handle: Call) -> Outcome:
        self.open -= 1
        return Outcome(handle, handle.name)


def test_a_pool_is_kept_full_but_never_ahead(tmp_path: Path) -> None:
    executor, taken, ended = Instant(workers=3), [], []

    def source() -> Iterator[Call | None]:
        for number in range(10):
            while number == 5 and len(ended) < 5:
                yield None  # until all before have ended
            taken.append((number, len(ended)))
            yield Call(str(number), print)

    for outcome in executor.run(source(), tmp_path):
        ended.append(outcome.value)  # noqa: PERF401
    assert ended == [str(n) for n in range(10)]
    assert executor.most == 3
    assert all(number - before < 3 for number, before in taken)
    assert (5, 5) in taken


def test_closing_ends_the_pool(tmp_path: Path) -> None:
    outcomes: Generator[Outcome, None, None] = Instant(workers=2).run(calls("a", "b", "c"), tmp_path)
    assert next(outcomes).value == "a"
    outcomes.close()
    assert list(outcomes) == []


def test_parcels_are_opened_once() -> None:
    function: Callable[[int], int] = lambda x: x + 1  # noqa: E731 (what pickle itself refuses)
    parcel = Parcel.of({"f": function}, "it")
    assert parcel.open() is parcel.open()
    assert parcel.unpack()["f"](1) == 2
    with pytest.raises(ValueError, match="it can't be sent to another process"):
        Parcel.of(sys.stdout, "it")


def test_archives_of_files_stay_below_their_root(tmp_path: Path) -> None:
    (tmp_path / "from/a").mkdir(parents=True)
    (tmp_path / "from/a/b.txt").write_text("b")
    (tmp_path / "from/a/.c.txt.x.part").write_text("unfinished")
    content = pack(tmp_path / "from", [Path("a"), Path("missing")])
    unpack(content, tmp_path / "to")
    assert [str(p.relative_to(tmp_path / "to")) for p in (tmp_path / "to").rglob("*.*")] == ["a/b.txt"]
    with pytest.raises(ValueError, match="no file below"):
        unpack(_escaping(), tmp_path / "to")


def _escaping() -> bytes:
    import io
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../outside.txt"), io.BytesIO(b""))
    return stream.getvalue()
