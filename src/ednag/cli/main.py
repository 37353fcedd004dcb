"""The front door: what `ednag` says of itself, which verb runs, and how a mistake is told."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from ednag.__about__ import __version__
from ednag.cli.messages import MISTAKES, say_mistake
from ednag.cli.verbs import VERBS, choose, listing


def main(words: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        words: what follows ``ednag``; by default what was typed.

    Returns:
        exit status: 0 if all went well, 2 after a user's mistake, 143 after SIGTERM, 130 after Ctrl-C, 129 after the terminal
        was closed, 141 where nobody reads what it says any more.
    """
    words = sys.argv[1:] if words is None else words
    try:
        if words[:1] == ["--version"]:
            sys.stdout.write(f"ednag {__version__}\n")
            sys.stdout.flush()
            return 0
        verb = choose(words, VERBS, program_help())
        status = 0 if verb is None else VERBS[verb].run(f"ednag {verb}", words[1:])
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # as of `ednag data list | head`: who reads has enough
        return 128 + signal.SIGPIPE
    except MISTAKES as error:
        if os.environ.get("EDNAG_DEBUG"):
            raise
        with suppress(OSError):  # the status tells as well
            sys.stderr.write(f"ednag: error: {say_mistake(error)}\n(EDNAG_DEBUG=1 shows where)\n")
        return 2


def program_help() -> str:
    """Write the help of the whole program: a line for each verb."""
    return listing(
        "ednag VERB [options]",
        "Evolutionary-diffusion neural architecture generation: from noise to a trained network.",
        {name: verb.line for name, verb in VERBS.items()},
        "`ednag VERB --help` shows the options of a verb, `ednag configs` what can follow --config, and\n"
        "`ednag --version` the version. New here? `ednag demo` needs no download and no GPU.",
    )
