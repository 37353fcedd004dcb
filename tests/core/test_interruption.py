"""What reaches processes that a run starts, and what several signals do to the run itself."""

import os
import signal
import subprocess
import sys

import pytest

from ednag.core.interruption import ENDING, Stopped, stoppable, without_interrupts

pytestmark = pytest.mark.usefixtures("hangups")

STARTED = """
import signal
from multiprocessing import resource_tracker
from ednag.core.interruption import without_interrupts

with without_interrupts():
    resource_tracker.ensure_running()  # as the start of any process does first
    print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
"""


def test_the_first_process_is_started_deaf_as_well() -> None:
    ended = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == [str(sorted([signal.SIGINT, signal.SIGHUP])), "[]"]


def stopped_again_and_again(signum: signal.Signals, saved: list[str]) -> None:
    with stoppable():
        try:
            os.kill(os.getpid(), signum)
        finally:
            for again in ENDING:
                os.kill(os.getpid(), again)
            saved.append("everything")


@pytest.mark.parametrize("signum", ENDING)
def test_signals_that_follow_the_first_change_nothing(signum: signal.Signals) -> None:
    before, saved = signal.getsignal(signum), []
    with pytest.raises(Stopped) as stopped:
        stopped_again_and_again(signum, saved)
    assert saved == ["everything"]
    assert stopped.value.status == 128 + signum
    assert signal.getsignal(signum) == before


def started_while(signum: signal.Signals, done: list[str]) -> None:
    with stoppable(), without_interrupts():
        os.kill(os.getpid(), signum)
        done.append("the process has all of its orders")


@pytest.mark.parametrize("signum", ENDING)
def test_a_start_is_finished_before_a_signal_is_heard(signum: signal.Signals) -> None:
    done: list[str] = []
    with pytest.raises(Stopped) as stopped:
        started_while(signum, done)
    assert done
    assert stopped.value.signum == signum


def test_a_closed_terminal_ends_nothing_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
