"""The interface of an executor: calls go in lazily, and their outcomes come out as they end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch


@dataclass(frozen=True)
class Resources:
    """What one call needs.

    Attributes:
        cpu: cores, which are also the threads of the call; ``None`` for one thread and no reckoning.
        gpu: GPUs; 0.5 lets two calls share one.

    Raises:
        ValueError: if one of them is negative, or ``cpu`` is 0.

    Examples:
        >>> Resources(cpu=1, gpu=0.5).threads
        1
    """

    cpu: float | None = None
    gpu: float = 0.0

    def __post_init__(self) -> None:
        if (self.cpu is not None and self.cpu <= 0) or self.gpu < 0:
            raise ValueError(f"resources need cpu > 0 and gpu >= 0, got cpu={self.cpu} and gpu={self.gpu}")
        if self.gpu > 1 and self.gpu != int(self.gpu):
            raise ValueError(f"gpu must be a whole number where it is more than 1, got {self.gpu}")

    @property
    def threads(self) -> int:
        """Threads of a call."""
        return max(int(self.cpu or 1), 1)


@dataclass(frozen=True)
class Call:
    """One piece of independent work: ``function(root, common, *arguments)``.

    What it reads and writes lies below the folder ``root``, which can be another one in a worker that doesn't see the
    driver's: the files named here are carried there and back.

    Attributes:
        name: tells it apart from others, and is shown.
        function: of a module that workers can import.
        arguments: what can be pickled, and is small.
        reads: files that it reads, relative to ``root``.
        writes: files and folders that it writes, and continues from, relative to ``root``.
        log: file that what it says goes to, relative to ``root``; ``None`` for nowhere.

    Examples:
        >>> call = Call("first", print, ("hello",), log=Path("001/log.txt"))
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    log: Path | None = None


@dataclass(frozen=True)
class Failure:
    """Why a call has no value.

    Attributes:
        kind: ``raised`` an exception; ran out of ``memory``; was ``lost`` with its worker; or took too much ``time``.
        reason: in words.
        error: the exception, if one was raised.
    """

    kind: Literal["raised", "memory", "lost", "time"]
    reason: str
    error: BaseException | None = None

    @property
    def fleeting(self) -> bool:
        """Whether another attempt may succeed: an exception would be raised again."""
        return self.kind != "raised"


@dataclass(frozen=True)
class Outcome:
    """What became of a call.

    Attributes:
        call: the call.
        value: what it returned.
        failure: why it returned nothing; ``None`` if it did.
        attempts: how often it was begun.
    """

    call: Call
    value: Any = None
    failure: Failure | None = None
    attempts: int = 1

    def result(self) -> Any:
        """Return the value.

        Raises:
            BaseException: what the call raised, if it did.
            RuntimeError: if it failed otherwise.
        """
        if self.failure is None:
            return self.value
        raise self.failure.error or RuntimeError(f"{self.call.name}: {self.failure.reason}")


@dataclass(frozen=True)
class Running:
    """A call under way.

    Attributes:
        call: the call.
        attempt: from 1.
        since: when it was handed to a worker, by :func:`time.monotonic`.
    """

    call: Call
    attempt: int
    since: float


Observer = Callable[[Sequence[Running]], None]
"""Called about once a second with the calls under way."""


class Executor(ABC):
    """Runs independent calls somewhere, and gives their outcomes as they end; which one it is changes no result.

    Examples:
        >>> from ednag.execution import Call, InProcess
        >>> calls = (Call(str(n), lambda root, common, n: common + n, (n,)) for n in (1, 2))
        >>> [outcome.value for outcome in InProcess().run(calls, Path("."), common=10)]
        [11, 12]
    """

    remote: bool = False
    """Whether calls run in other processes than this one."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many calls run at a time."""

    def check(self, root: Path) -> None:  # noqa: B027 (this process lacks nothing)
        """Refuse what can't work, before anything is paid for.

        Args:
            root: existing folder that calls read and write below.

        Raises:
            ValueError: if workers can't be had, lack what calls need, or are not of the driver's kind.
            ModuleNotFoundError: if a package is missing here.
        """

    def kept(self, root: Path, common: Any = None) -> AbstractContextManager[None]:
        """Keep workers for a while, for several :meth:`run` with this root and this in common."""
        return nullcontext()

    @abstractmethod
    def run(
        self, calls: Iterable[Call | None], root: Path, common: Any = None, observe: Observer | None = None
    ) -> Generator[Outcome, None, None]:
        """Run calls.

        Args:
            calls: the next one is taken when a worker is free, after what has ended was given out: later calls may depend
                on earlier outcomes. ``None`` says that there is none until another outcome has been seen.
            root: folder that they read and write below.
            common: given to all of them; sent to each worker once.
            observe: see :data:`Observer`.

        Yields:
            one outcome for each call, in the order in which they end. Closing the iterator ends what still runs.
        """


def out_of_memory(error: BaseException) -> bool:
    """Whether something was too large for the memory of its device; a CPU's allocator says so in words only."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def failed(error: BaseException) -> Failure:
    """Describe an exception of a call."""
    if out_of_memory(error):
        return Failure("memory", str(error) or "out of memory")  # the exception holds on to the memory
    return Failure("raised", f"{type(error).__name__}: {error}", error)
