"""Calls on a Ray cluster, or on a Ray that is started on this machine."""

from __future__ import annotations

import importlib
import os
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ednag.core.interruption import without_interrupts
from ednag.execution.base import Call, Failure, Outcome, Resources, failed
from ednag.execution.files import pack, sees, token, unpack
from ednag.execution.pool import Pooled
from ednag.execution.processes import cores
from ednag.execution.reachable import refuse_silent
from ednag.execution.worker import Parcel, Settings, differing, perform, versions

STARTS = 2
"""How often a Ray of the run's own is started: on a busy machine it can miss its own deadline of 30 s."""


class Ray(Pooled):
    """Workers of a Ray cluster (``pip install 'ednag[ray]'``), see https://docs.ray.io.

    What is common to all calls goes through Ray's object store once. Workers must see the run directory, or with
    ``shared`` false a call's files are sent to it and come back with its result.

    Args:
        address: ``HOST:PORT`` of a cluster's head node, or ``auto`` for the one that this machine is part of; if omitted,
            the environment variable ``RAY_ADDRESS``, else Ray is started here and ends with the run.
        workers: calls at a time; as many as the resources allow if omitted.
        resources: what one call needs, ``{cpu: 1, gpu: 0.5}``; one core if omitted.
        retries: how often a call is begun again that was lost with its worker, ran out of memory or took too long.
        time_limit: seconds that one attempt may take, no limit if omitted.
        shared: whether workers see the run directory under the same path.

    Raises:
        ValueError: for a number out of range.

    Examples:
        >>> Ray(workers=2, resources=Resources(cpu=1, gpu=0.5)).time_limit is None
        True
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        resources: Resources | None = None,
        retries: int = 2,
        time_limit: float | None = None,
        shared: bool = True,
    ) -> None:
        super().__init__(resources or Resources(cpu=1), retries, time_limit)
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be >= 1, got {workers}")
        self.address, self.asked, self.shared = address, workers, shared
        self._checked: Path | None = None
        self._started, self._users = False, 0
        self._fitting: int | None = None

    @property
    def workers(self) -> int:
        """Calls at a time; known after :meth:`check` if none was asked for."""
        return self.asked or self._fitting or max(self.shares({"cpu": float(cores()), "gpu": 0.0}), 1)

    def check(self, root: Path) -> None:
        """Connect, and ask a worker of each node for its versions and whether it sees the run directory; once for each.

        A Ray that was started for this goes on until calls have been run on it, or this process ends.
        """
        if self._checked == root:
            return
        with self._connected(stay=True) as ray:
            self._fit(ray)
            self._probe(ray, root)
        self._checked = root

    @contextmanager
    def opened(self, root: Path, common: Any) -> Iterator[_Tasks]:
        """Connect to the cluster, and send out what is common."""
        parcel = Parcel.of(common, "what the calls share")
        with self._connected() as ray:
            if self._checked != root:
                self._fit(ray)
                self._probe(ray, root)
                self._checked = root
            tasks = _Tasks(ray, self, root, parcel)
            try:
                yield tasks
            finally:
                tasks.end()

    @contextmanager
    def _connected(self, stay: bool = False) -> Iterator[Any]:
        """Connect to Ray, or start it, for a while; within another such while, nothing happens.

        Args:
            stay: leave a Ray that was started here running if nothing goes wrong.
        """
        ray = _package()
        if not ray.is_initialized():
            self._start(ray)
            self._started = True
        self._users += 1
        try:
            yield ray
        except BaseException:
            stay = False
            raise
        finally:
            self._users -= 1
            if self._started and self._users == 0 and not (stay and self._where() is None):
                ray.shutdown()
                self._started = False

    def _where(self) -> str | None:
        """The address of a cluster; ``None`` for a Ray of this run's own."""
        return self.address or os.environ.get("RAY_ADDRESS") or None

    def _start(self, ray: Any) -> None:
        """Connect to Ray, or start it.

        Raises:
            ValueError: if it doesn't answer, or doesn't start.
        """
        address = self._where()
        if address and address != "auto":
            refuse_silent(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        options: dict[str, Any] = {"include_dashboard": False}
        if self.asked is not None and self.resources.cpu is not None:
            options["num_cpus"] = cores()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for left in reversed(range(1 if address else STARTS)):
            try:
                with without_interrupts():
                    ray.init(
                        address=address, log_to_driver=False, logging_level="ERROR", **({} if address else options)
                    )
                return
            except Exception as error:  # Ray raises bare ones
                ray.shutdown()  # what it has started so far
                if left == 0:
                    where = f"no Ray at {address}" if address else "Ray does not start on this machine"
                    raise ValueError(f"{where}: {' '.join(str(error).split())[:300]}") from error
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)  # Ray's own would end the process without a word

    def _fit(self, ray: Any) -> None:
        """Work out how many calls fit, and refuse more."""
        total = {name: float(ray.cluster_resources().get(name.upper(), 0)) for name in ("cpu", "gpu")}
        there = f"({total['cpu']:g} cores, {total['gpu']:g} GPUs)"
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._fitting = sum(self.shares({n: float(node.get(n.upper(), 0)) for n in ("cpu", "gpu")}) for node in nodes)
        if self._fitting == 0:
            raise ValueError(
                f"a call needs {self.resources.cpu or 0:g} cores and {self.resources.gpu:g} GPUs, which no node of the Ray "
                f"cluster has {there}; ask for less with --executor.resources"
            )
        if self.workers > self._fitting:
            raise ValueError(
                f"{self.workers} workers of {self.resources.cpu or 0:g} cores and {self.resources.gpu:g} GPUs are more than the "
                f"Ray cluster has {there}; use at most --executor.workers {self._fitting}"
            )

    def _probe(self, ray: Any, root: Path) -> None:
        """Ask each node.

        Raises:
            ValueError: if one of them differs, or doesn't see the folder though it should.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        probe = ray.remote(max_retries=0, num_cpus=0)(_look)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        with token(root) as (path, content):
            asked = [
                probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                    path, content
                )
                for node in nodes
            ]
            for node, answer in zip(nodes, asked, strict=True):
                where = f"the Ray node {node['NodeManagerHostname']}"
                try:
                    theirs, seen = ray.get(answer)
                except ray.exceptions.RayError as error:
                    reason = str(error).strip().split("\n")[-1]
                    raise ValueError(f"{where} can't run EDNAG ({reason}); install the same there") from error
                if odd := differing(theirs, where):
                    raise ValueError(odd)
                if self.shared and not seen:
                    raise ValueError(
                        f"{where} can't see {root.absolute()}; choose a --run_dir on a file system that all nodes share, or "
                        "let files come back through Ray: --executor.shared false"
                    )


def _look(path: str, content: str) -> tuple[dict[str, str], bool]:
    """What a node is asked."""
    return versions(), sees(path, content)


class _Tasks:
    """Calls under way as tasks of Ray."""

    def __init__(self, ray: Any, executor: Ray, root: Path, common: Parcel) -> None:
        self.executor = executor
        self.ray, self.root, self.shared = ray, root.absolute(), executor.shared
        self.digest, self.common = common.digest, ray.put(common)
        self.settings, self.limit = Settings.of_driver(executor.resources.threads), executor.time_limit
        need = executor.resources
        self.task = ray.remote(num_cpus=need.cpu or 0, num_gpus=need.gpu, max_retries=0, scheduling_strategy="SPREAD")(
            _perform
        )
        self.busy: dict[Any, tuple[Call, float, int]] = {}
        self.sent: dict[Path, Any] = {}

    def submit(self, call: Call) -> Any:
        """Hand a call to the cluster, with its files where workers don't see them."""
        reads = [] if self.shared else [self._sent(path) for path in call.reads]
        written = None if self.shared else pack(self.root, call.writes)
        parcel, root = Parcel.of(call, f"the call {call.name}"), str(self.root) if self.shared else None
        handle = self.task.remote(parcel, root, self.digest, [self.common], reads, written, self.settings, self.limit)
        self.busy[handle] = (call, time.monotonic(), self._said(call))
        return handle

    def _sent(self, path: Path) -> Any:
        """Put a file that calls read into the object store, once."""
        if path not in self.sent:
            self.sent[path] = self.ray.put(pack(self.root, [path]))
        return self.sent[path]

    def wait(self, handles: Iterable[Any], seconds: float) -> list[Any]:
        """Wait for some to end."""
        waiting = [*handles]
        self.ray.wait(waiting, num_returns=1, timeout=seconds)
        ended: list[Any] = self.ray.wait(waiting, num_returns=len(waiting), timeout=0)[0]
        return ended

    def outcome(self, handle: Any) -> Outcome:
        """What became of a call; files that came with it are written."""
        (call, since, said), errors = self.busy.pop(handle), self.ray.exceptions
        try:
            outcome, files = self.ray.get(handle)
        except errors.OutOfMemoryError:
            return Outcome(call, failure=Failure("memory", "Ray ended it, as its node ran out of memory"))
        except (errors.RayTaskError, errors.RaySystemError) as error:
            return Outcome(call, failure=failed(error))
        except errors.RayError as error:
            why = f"the worker that it ran on is gone ({type(error).__name__})"
            late = self._hung(call, said) if self.shared and call.log else time.monotonic() - since >= (self.limit or 0)
            return Outcome(call, failure=self.executor.gone(why, late))
        if files is not None:
            unpack(files, self.root)
        made: Outcome = outcome
        return made

    def _said(self, call: Call) -> int:
        """Length of a call's log, in bytes."""
        path = self.root / (call.log or "")
        return path.stat().st_size if call.log and path.exists() else 0

    def _hung(self, call: Call, said: int) -> bool:
        """Whether a worker that is gone has ended itself, as the end of its log tells."""
        try:
            return b"Timeout (" in (self.root / (call.log or "")).read_bytes()[said:]
        except OSError:
            return False

    def end(self) -> None:
        """End what still runs."""
        for handle in self.busy:
            self.ray.cancel(handle, force=True)
        self.busy.clear()


def _perform(
    parcel: Parcel,
    root: str | None,
    digest: str,
    common: list[Any],
    reads: list[Any],
    written: bytes | None,
    settings: Settings,
    limit: float | None,
) -> tuple[Outcome, bytes | None]:
    """Make a call in a worker of Ray; without a shared root, in a folder of its own."""
    ray = _package()
    settings.apply()
    shared = (_kept.get(digest) or _keep(ray.get(common[0]))).open()
    call: Call = parcel.unpack()
    if root is not None:
        return perform(call, Path(root), shared, limit), None
    with tempfile.TemporaryDirectory(prefix="ednag-") as name:
        folder = Path(name)
        for content in [*ray.get(reads), *([] if written is None else [written])]:
            unpack(content, folder)
        outcome = perform(call, folder, shared, limit)
        return outcome, pack(folder, [*call.writes, *([] if call.log is None else [call.log])])


_kept: dict[str, Parcel] = {}


def _keep(parcel: Parcel) -> Parcel:
    """Keep what is common in this worker, and nothing else."""
    _kept.clear()
    _kept[parcel.digest] = parcel
    return parcel


def _package() -> Any:
    """Import Ray.

    Raises:
        ModuleNotFoundError: if it isn't installed.
    """
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError:
        raise ModuleNotFoundError("Ray is not installed; install it with: pip install 'ednag[ray]'") from None
