"""How far a call is, said in a few words by what runs in a worker and shown by the driver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_place: list[Path] = []


def note(text: str) -> None:
    """Say how far this call is, such as ``epoch 2 of 6``; nothing happens outside a worker."""
    if _place:
        with suppress(OSError):
            _place[-1].write_text(text, encoding="utf-8")


def noted(log: Path) -> str:
    """Read what a call has noted last; empty if it can't be seen from here."""
    try:
        return beside(log).read_text(encoding="utf-8")
    except OSError:
        return ""


def beside(log: Path) -> Path:
    """Where the notes of a call lie that has this log."""
    return log.with_name(f".{log.stem}.note")


@contextmanager
def notes_beside(log: Path) -> Iterator[None]:
    """Keep notes beside a log for a while."""
    path = beside(log)
    _place.append(path)
    try:
        yield
    finally:
        _place.pop()
        path.unlink(missing_ok=True)
