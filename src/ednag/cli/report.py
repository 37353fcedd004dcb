"""``ednag report``: the page of a run, made again from its files."""

from __future__ import annotations

import webbrowser
from contextlib import nullcontext
from pathlib import Path

from ednag.cli.output import say
from ednag.cli.verbs import read_call


def report(run: Path, *, open: bool = False) -> None:
    """Make the report of a run again, from the files in its directory.

    Args:
        run: directory of a run of generate, retrain, fit, compare or collect that has ended.
        open: show it in a browser.
    """
    from ednag.core.ownership import owned
    from ednag.pages.write import REPORT, write_page

    with owned(run, "read its files as they are") if run.is_dir() else nullcontext():
        write_page(run)
    say(f"report: {run / REPORT}")
    if open:
        show_page(run)


def show_page(folder: Path) -> None:
    """Show the report of a run in a browser, if there is one."""
    from ednag.pages.write import REPORT

    webbrowser.open((folder / REPORT).resolve().as_uri())


def run(prog: str, words: list[str]) -> None:
    """Run ``ednag report``."""
    read_call(prog, report, words)()
