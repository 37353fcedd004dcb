"""SIGTERM, Ctrl-C and a closed terminal as one exception, raised at once, that nothing takes for a failure."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that ask a process to end."""

PATIENCE = 20.0
"""Seconds after a signal within which others change nothing: what it ends is being saved."""


class Stopped(BaseException):
    """The process was asked to end.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    @property
    def status(self) -> int:
        """Exit status of a process that such a signal ends: 129, 130 or 143."""
        return 128 + self.signum


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise :class:`Stopped` on SIGTERM, SIGINT and SIGHUP within; processes forked from this one end silently.

    Under ``nohup``, SIGHUP goes on being ignored. Once a signal was heard, further ones are ignored for :data:`PATIENCE` seconds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner, last = os.getpid(), -math.inf

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal last
        if os.getpid() != owner:
            os._exit(128 + signum)
        if _postponed is not None:
            _postponed.append(signum)
        elif time.monotonic() - last >= PATIENCE:
            last = time.monotonic()
            raise Stopped(signum)

    heard = [signum for signum in ENDING if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN]
    before = {signum: signal.signal(signum, stop) for signum in heard}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


_postponed: list[int] | None = None
"""Signals heard while processes are started, which is not to be left half done."""


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Let processes that are started within never see Ctrl-C or a closed terminal, which all are told of at once.

    This one hears of it after, and of SIGTERM as well: a process that is told half of its orders ends in a traceback.
    """
    global _postponed
    hidden = {signal.SIGINT, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, hidden)
    outer, _postponed = _postponed, []
    try:
        resource_tracker.ensure_running()  # else the first process starts it, which lets SIGINT through again
        signal.pthread_sigmask(signal.SIG_BLOCK, hidden)
        yield
    finally:
        heard, _postponed = _postponed, outer
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if heard:
            signal.raise_signal(heard[0])
