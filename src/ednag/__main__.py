"""``python -m ednag`` and the ``ednag`` command."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line and exit with its status; signals while it is being imported end it silently.

    Once a signal has stopped it, others come too late to change anything.
    """
    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for signum in ending:
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:  # as under nohup
            signal.signal(signum, lambda signum, _: os._exit(128 + signum))
    open_streams()
    from ednag.cli.main import main as run

    try:
        status = run()
    except SystemExit as ended:  # as after --help
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    if status > 128:
        for signum in ending:
            signal.signal(signum, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # Python would try again, with a traceback
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            status = status or 2
    sys.exit(status)


def open_streams() -> None:
    """Let what the caller has closed of the standard streams lead nowhere, and no file take its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    main()
