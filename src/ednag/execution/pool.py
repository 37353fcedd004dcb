"""The loop of every executor with workers: hand calls out, wait, try again what was lost with its worker."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ednag.execution.base import Call, Executor, Failure, Observer, Outcome, Resources, Running
from ednag.execution.notes import beside

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between two looks at the calls under way."""


class Pool(Protocol):
    """Workers that have been started."""

    def submit(self, call: Call) -> Any:
        """Hand a call to a free worker; returns a handle, which can be hashed."""

    def wait(self, handles: Iterable[Any], seconds: float) -> list[Any]:
        """Wait until some of the calls have ended, or for so long; returns their handles."""

    def outcome(self, handle: Any) -> Outcome:
        """What became of a call that has ended; a failure of the kind ``lost`` if its worker is gone."""


class Pooled(Executor):
    """An executor with workers of its own.

    Args:
        resources: what one call needs.
        retries: how often a call is begun again that was lost with its worker, ran out of memory or took too long.
        time_limit: seconds that one attempt may take; ``None`` for no limit.

    Raises:
        ValueError: for a number out of range.
    """

    remote = True

    def __init__(self, resources: Resources | None, retries: int, time_limit: float | None) -> None:
        if retries < 0 or (time_limit is not None and time_limit <= 0):
            raise ValueError(f"need retries >= 0 and time_limit > 0, got {retries} and {time_limit}")
        self.resources = resources or Resources()
        self.retries, self.time_limit = retries, time_limit
        self._pool: Pool | None = None

    @abstractmethod
    def opened(self, root: Path, common: Any) -> AbstractContextManager[Pool]:
        """Start workers; they are ended with the context, whatever they do."""

    @contextmanager
    def kept(self, root: Path, common: Any = None) -> Iterator[None]:
        """Keep workers for a while, see :meth:`Executor.kept`."""
        with self.opened(root, common) as self._pool:
            try:
                yield
            finally:
                self._pool = None

    def run(
        self, calls: Iterable[Call | None], root: Path, common: Any = None, observe: Observer | None = None
    ) -> Generator[Outcome, None, None]:
        """Run calls, see :meth:`Executor.run`."""
        source, again = iter(calls), deque[tuple[Call, int]]()
        first = next(source, None)
        if first is None:
            return  # no worker is started for nothing
        again.append((first, 1))
        kept = nullcontext(self._pool) if self._pool is not None else self.opened(root, common)
        with kept as pool:
            running: dict[Any, Running] = {}
            while True:
                while len(running) < self.workers and (taken := self._next(again, source)) is not None:
                    call, attempt = taken
                    running[pool.submit(call)] = Running(call, attempt, time.monotonic())
                if not running:
                    return
                ended = pool.wait(running, TICK)
                outcomes = [self._judged(pool.outcome(handle), running.pop(handle)) for handle in ended]
                for outcome in outcomes:
                    if outcome.call.log is not None:  # a worker that died has left its notes behind
                        beside(root / outcome.call.log).unlink(missing_ok=True)
                if observe is not None:
                    observe([*running.values()])
                for outcome in outcomes:
                    if outcome.failure is not None and outcome.failure.fleeting and outcome.attempts <= self.retries:
                        log.warning("%s: %s; trying again", outcome.call.name, outcome.failure.reason)
                        again.append((outcome.call, outcome.attempts + 1))
                    else:
                        yield outcome

    @staticmethod
    def _next(again: deque[tuple[Call, int]], source: Iterator[Call | None]) -> tuple[Call, int] | None:
        """The next call and its attempt; those that were lost come first."""
        if again:
            return again.popleft()
        call = next(source, None)
        return None if call is None else (call, 1)

    def _judged(self, outcome: Outcome, running: Running) -> Outcome:
        """Note which attempt it was."""
        failure = outcome.failure
        if failure is not None and failure.fleeting and running.attempt > 1:
            failure = replace(failure, reason=f"{failure.reason} ({running.attempt} attempts)")
        return replace(outcome, call=running.call, failure=failure, attempts=running.attempt)

    def gone(self, why: str, late: bool) -> Failure:
        """Describe the loss of a worker, which ends itself if a call takes too long."""
        if late and self.time_limit is not None:
            return Failure("time", f"it took more than {self.time_limit:g} s")
        return Failure("lost", why)

    def shares(self, total: Mapping[str, float]) -> int:
        """How many calls fit into what there is, ``cpu`` and ``gpu``; none has parts of two GPUs."""
        cpu, gpu = self.resources.cpu, self.resources.gpu
        fits = [total["cpu"] / cpu] if cpu else []
        if gpu:
            fits.append(int(total["gpu"]) * int(1 / gpu) if gpu < 1 else total["gpu"] / gpu)
        return int(min(fits, default=2**31))
