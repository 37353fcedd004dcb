"""Calls in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from ednag.core.interruption import without_interrupts
from ednag.execution.base import Call, Outcome, Resources, failed
from ednag.execution.pool import Pooled
from ednag.execution.worker import LATE, Parcel, Settings, perform


class Processes(Pooled):
    """Several processes of this machine, one thread each unless ``resources.cpu`` says otherwise.

    Each worker is a process pool of one (:mod:`concurrent.futures`), so that a process that dies takes nothing else
    with it. GPUs are shared out evenly: with ``gpu`` 0.5, the first two workers see the first GPU.

    Args:
        workers: processes.
        resources: what one call needs, ``{cpu: 1, gpu: 0.5}``; nothing is reckoned if omitted.
        retries: how often a call is begun again that was lost with its worker, ran out of memory or took too long.
        time_limit: seconds that one attempt may take; no limit if omitted.

    Raises:
        ValueError: for a number out of range.

    Examples:
        >>> Processes(workers=4).workers
        4
    """

    def __init__(
        self,
        workers: int = 2,
        resources: Resources | None = None,
        retries: int = 2,
        time_limit: float | None = None,
    ) -> None:
        super().__init__(resources, retries, time_limit)
        if workers < 1:
            raise ValueError(f"workers must be >= 1, got {workers}")
        self._workers = workers

    @property
    def workers(self) -> int:
        """Processes."""
        return self._workers

    def check(self, root: Path) -> None:
        """Refuse more workers than there are cores or GPUs for, if calls say what they need."""
        total = {"cpu": float(cores()), "gpu": float(torch.cuda.device_count())}
        if self.workers > (most := self.shares(total)):
            asked = f"{self.workers} workers of {self.resources.cpu or 0:g} cores and {self.resources.gpu:g} GPUs"
            instead = f"use at most --executor.workers {most}, or smaller" if most else "use smaller"
            raise ValueError(
                f"{asked} are more than there are ({total['cpu']:g} cores, {total['gpu']:g} GPUs); "
                f"{instead} --executor.resources"
            )

    @contextmanager
    def opened(self, root: Path, common: Any) -> Iterator[_Slots]:
        """Start workers as they are needed."""
        slots = _Slots(self, root, Parcel.of(common, "what the calls share"))
        try:
            yield slots
        finally:
            slots.end()


class _Slots:
    """Process pools of one worker each."""

    def __init__(self, executor: Processes, root: Path, common: Parcel) -> None:
        self.executor, self.root, self.common = executor, root, common
        self.settings, self.limit = Settings.of_driver(executor.resources.threads), executor.time_limit
        self.gpu = executor.resources.gpu
        self.free = [*range(executor.workers)][::-1]
        self.pools: dict[int, ProcessPoolExecutor] = {}
        self.processes: dict[int, BaseProcess] = {}
        self.busy: dict[Future[Any], tuple[int, Call]] = {}

    def submit(self, call: Call) -> Future[Any]:
        """Hand a call to a free worker, which is started if it isn't there."""
        number = self.free.pop()
        work = Parcel.of(call, f"the call {call.name}"), self.root, self.common.digest, self.settings, self.limit
        with without_interrupts():
            try:
                handle = (self.pools.get(number) or self._start(number)).submit(_perform, *work)
            except BrokenProcessPool:  # it died while it had nothing to do
                self.pools.pop(number).shutdown()
                handle = self._start(number).submit(_perform, *work)
        self.busy[handle] = (number, call)
        return handle

    def wait(self, handles: Iterable[Future[Any]], seconds: float) -> list[Future[Any]]:
        """Wait for some to end."""
        ended = wait(handles, timeout=seconds, return_when=FIRST_COMPLETED).done
        return [handle for handle in handles if handle in ended]

    def outcome(self, handle: Future[Any]) -> Outcome:
        """What became of a call; its worker is free again, or gone."""
        number, call = self.busy.pop(handle)
        self.free.append(number)
        try:
            made: Outcome = handle.result()
        except BrokenProcessPool:
            self.pools.pop(number).shutdown()
            late = self.processes[number].exitcode == LATE
            return Outcome(call, failure=self.executor.gone("the process that worked on it died", late))
        except Exception as error:  # it could not be sent
            return Outcome(call, failure=failed(error))
        return made

    def _start(self, number: int) -> ProcessPoolExecutor:
        """Start a worker."""
        context, visible = multiprocessing.get_context("spawn"), self._visible(number)
        pool = ProcessPoolExecutor(1, context, begin, (os.getpid(), visible, self.common))
        before = {process.pid for process in multiprocessing.active_children()}
        pool.submit(os.getpid)  # starts the process
        new = [process for process in multiprocessing.active_children() if process.pid not in before]
        self.pools[number], self.processes[number] = pool, new[0]
        return pool

    def _visible(self, number: int) -> str | None:
        """The GPUs of a worker, for ``CUDA_VISIBLE_DEVICES``; ``None`` leaves them as they are."""
        if self.gpu == 0:
            return None
        every = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
        first = number // int(1 / self.gpu) if self.gpu < 1 else number * int(self.gpu)
        return ",".join(every.split(",")[first : first + max(int(self.gpu), 1)])

    def end(self) -> None:
        """End all workers: those that are idle in peace, the others at once."""
        busy = {number for number, _ in self.busy.values()}
        for number, pool in self.pools.items():
            pool.shutdown(wait=number not in busy, cancel_futures=True)
            if number in busy:
                self.processes[number].kill()  # nothing is lost: what has ended is in files


def begin(parent: int, visible: str | None, common: Parcel) -> None:
    """Set a worker up, with a thread that ends it when its parent is gone."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    _common[common.digest] = common


_common: dict[str, Parcel] = {}


def _perform(call: Parcel, root: Path, common: str, settings: Settings, limit: float | None) -> Outcome:
    """Make a call; only the result goes back, with the call that the driver knows."""
    settings.apply()
    shared = _common[common].open()
    return perform(call.unpack(), root, shared, limit)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)  # nothing is lost: what has ended is in files
