"""What happens in a worker: its settings, the call with its log and time limit, and what is told of its end."""

from __future__ import annotations

import faulthandler
import hashlib
import importlib
import logging
import os
import pickle
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from ednag.core import manifest
from ednag.execution.base import Call, Failure, Outcome, failed
from ednag.execution.in_process import logged
from ednag.execution.notes import notes_beside

log = logging.getLogger(__name__)

LATE = 1
"""Exit status of a worker that ended itself as a call took too long; :mod:`faulthandler`'s."""

LARGE = 64 * 2**20
"""Bytes above which a parcel is worth a warning."""


@dataclass(frozen=True)
class Parcel:
    """Something pickled, by value where workers can't import it; unpickled once in each process.

    Attributes:
        content: the pickle.
        digest: tells it apart from others.
    """

    content: bytes
    digest: str

    @classmethod
    def of(cls, thing: Any, what: str) -> Parcel:
        """Pickle something.

        Raises:
            ValueError: if it can't be.
        """
        try:
            content = cloudpickle.dumps(thing)
        except Exception as error:
            raise ValueError(
                f"{what} can't be sent to another process: {error}; run it with --executor InProcess"
            ) from error
        if len(content) > LARGE:
            log.warning(
                "%s is %d MB; a data module should leave its images out when it is pickled (__getstate__)",
                *(what, len(content) >> 20),
            )
        return cls(content, hashlib.sha256(content).hexdigest())

    def open(self) -> Any:
        """Return the thing, the same one each time that this process opens an equal parcel."""
        if self.digest not in _opened:
            _opened.clear()
            _opened[self.digest] = self.unpack()
        return _opened[self.digest]

    def unpack(self) -> Any:
        """Return the thing, a new one each time."""
        return pickle.loads(self.content)  # noqa: S301 (the driver's own)


_opened: dict[str, Any] = {}


@dataclass(frozen=True)
class Settings:
    """What a worker takes over from the driver.

    Attributes:
        threads: of its computations.
        precision: of float32 matrix products.
        deterministic: whether only deterministic algorithms may run.
        environment: variables that change what EDNAG and its trackers do.
    """

    threads: int = 1
    precision: str = "highest"
    deterministic: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_driver(cls, threads: int) -> Settings:
        """Take this process's."""
        kept = {n: v for n, v in os.environ.items() if n.startswith("EDNAG_") and n != "EDNAG_RUN_DIR"}
        kept |= {name: os.environ[name] for name in ("WANDB_MODE",) if name in os.environ}
        precision, deterministic = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
        return cls(threads, precision, deterministic, kept)

    def apply(self) -> None:
        """Set this process up."""
        os.environ.update(self.environment)
        torch.set_num_threads(self.threads)
        torch.set_float32_matmul_precision(self.precision)
        torch.use_deterministic_algorithms(self.deterministic)


def perform(call: Call, root: Path, common: Any, limit: float | None) -> Outcome:
    """Make a call in a worker that has been set up; what it prints and logs goes into its log.

    Nothing but the death of the process escapes.

    Args:
        call: what to do.
        root: the folder it reads and writes below, as seen from here.
        common: for all calls.
        limit: seconds after which this process ends itself, with a traceback in the log; ``None`` for no limit.
    """
    path = None if call.log is None else root / call.log
    named = Call(call.name, print)  # the driver knows the rest
    with spoken_to(path), logged(path), limited(limit):
        try:
            value = call.function(root, common, *call.arguments)
            pickle.dumps(value)
            outcome = Outcome(named, value)
        except Exception as error:
            log.exception("%s failed", call.name)
            outcome = Outcome(named, failure=portable(failed(error)))
        finally:
            if (wandb := sys.modules.get("wandb")) is not None:
                wandb.finish()  # this process lives on: the run would seem to go on too
    return outcome


def portable(failure: Failure) -> Failure:
    """Make a failure that can be sent: an exception that can't be pickled becomes one with its words."""
    try:
        pickle.loads(pickle.dumps(failure.error))  # noqa: S301 (our own)
    except Exception:
        return Failure(failure.kind, failure.reason, RuntimeError(failure.reason))
    return failure


@contextmanager
def spoken_to(path: Path | None) -> Iterator[None]:
    """Append what this process writes to its standard streams to a file, or drop it; leave notes beside the file."""
    target = Path(os.devnull) if path is None else path
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    before = [os.dup(1), os.dup(2)]
    with target.open("ab") as stream:
        try:
            for number in (1, 2):
                os.dup2(stream.fileno(), number)
            with warnings.catch_warnings():
                if path is None:
                    yield
                else:
                    with notes_beside(path):
                        yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in enumerate(before, 1):
                os.dup2(old, number)
                os.close(old)


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """End this process if what is done meanwhile takes longer, whatever it hangs in; where it was goes to stderr."""
    if seconds is None:
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def versions() -> dict[str, str]:
    """What results could depend on, by name: versions of Python and of packages, and a digest of this program's text."""
    found = {name: of or "none" for name, of in manifest.versions().items()}
    package = Path(importlib.import_module("ednag").__file__ or "").parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    return {**found, "the text of ednag": digest.hexdigest()[:12]}


def differing(theirs: dict[str, str], where: str) -> str:
    """Say in what a worker differs from this process; empty if in nothing."""
    ours = versions()
    odd = [f"{name} {theirs.get(name)} (here {ours[name]})" for name in ours if theirs.get(name) != ours[name]]
    return f"{where} has {', '.join(odd)}; install the same there, or results could differ" if odd else ""
