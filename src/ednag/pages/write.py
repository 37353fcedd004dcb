"""Making the page of a run, whatever its verb."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ednag.core.reading import reading
from ednag.core.storage import atomic_write
from ednag.pages.blocks import Page
from ednag.pages.comparison_pages import collection_page, comparison_page
from ednag.pages.fit_page import fit_page
from ednag.pages.generation_page import generation_page
from ednag.pages.html import page_html
from ednag.pages.retraining_page import retraining_page
from ednag.pages.sources import REMEDY

REPORT = "report.html"
"""The page of a run directory."""

KINDS: dict[str, Callable[[Path], Page]] = {
    "summary.json": retraining_page,  # beside which there is a report.json, of the generation
    "report.json": generation_page,
    "comparison.json": comparison_page,
    "rows.npz": collection_page,
    "curves.csv": fit_page,
}
"""The page of a run by the file that tells its verb, the first that is there."""


def make_page(folder: Path) -> Page:
    """Make the page of a run from its files.

    Raises:
        FileNotFoundError: if there is no run, or it has not ended.
        ValueError: if a file is damaged.
    """
    for name, make in KINDS.items():
        if (folder / name).exists():
            with _naming(folder):
                return make(folder)
    raise FileNotFoundError(f"{folder} holds no run that has ended: none of {', '.join(KINDS)} is there")


def write_page(folder: Path) -> Page:
    """Write ``report.html`` into a run directory, atomically; see :func:`make_page`."""
    page = make_page(folder)
    with _naming(folder):
        text = page_html(page).encode()
    atomic_write(folder / REPORT, lambda stream: stream.write(text))
    return page


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Let no error of damaged files pass that doesn't say where they are."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(folder) in str(error):
            raise
        with reading(folder, "a run whose files belong together", REMEDY):
            raise
