"""``python -m ednag`` and the ``ednag`` command."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line and exit with its status; Ctrl-C while it is being imported ends it silently."""
    signal.signal(signal.SIGINT, lambda signum, _: os._exit(128 + signum))
    from ednag.cli.main import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
