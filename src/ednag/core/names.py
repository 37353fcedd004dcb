"""Names that a user may misspell: the nearest known ones, and what to say."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Find the known names that a misspelt one resembles, whatever their case, the most similar first.

    >>> nearest("nasbench21", ["nasbench201", "nasbench101", "digits"])
    ['nasbench201', 'nasbench101']
    """
    by_lower = {other.lower(): other for other in known}
    return [by_lower[match] for match in get_close_matches(name.lower(), by_lower, most, cutoff=0.6)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Ask for the nearest known names, in parentheses with a space before; empty if none is near.

    >>> did_you_mean("papr", ["default", "paper"])
    ' (did you mean paper?)'
    """
    close = nearest(name, known)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say that a name is unknown, which ones are near, and which are allowed.

    >>> unknown("preset", "papr", ["default", "paper"])
    "unknown preset 'papr' (did you mean paper?); allowed: default, paper"
    """
    known = list(known)
    return f"unknown {what} {name!r}{did_you_mean(name, known)}; allowed: {', '.join(known)}"
