"""Journals: files to which a line of JSON is appended for each thing that has ended, and that survive a kill."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ednag.core.reading import parse_json, read_bytes, reading

log = logging.getLogger(__name__)


def append_line(path: Path, line: str) -> None:
    """Append one line to a file and wait until it is on the disk; a line that a kill cut short is closed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as stream:
        if stream.tell() > 0:
            stream.seek(-1, os.SEEK_END)
            line = line if stream.read(1) == b"\n" else f"\n{line}"
        stream.write(f"{line}\n".encode())
        stream.flush()
        os.fsync(stream.fileno())


def read_lines(path: Path, remedy: str, accept: Callable[[Any], bool]) -> list[Any]:
    """Read the lines of a journal; one that a kill cut short, or that is not accepted, is left out.

    Args:
        path: the journal; none is an empty one.
        remedy: what to do if it can't be read.
        accept: whether what a line holds is what it should.
    """
    found: list[Any] = []
    with reading(path, "a journal", remedy):
        lines = read_bytes(path).splitlines() if path.exists() else []
    for line in lines:
        try:
            content = parse_json(line)
        except ValueError:
            content = None
        if content is not None and accept(content):
            found.append(content)
        else:
            log.warning("%s has a line that is cut short or damaged; what it was about is done again", path)
    return found
