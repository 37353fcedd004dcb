"""Which files a run has read, for its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOUSE = "ednag."
"""Where the classes come from whose attributes are looked through."""


def sha256(path: Path) -> str:
    """Hash a file; hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class InputFile:
    """A file as it was read.

    Attributes:
        path: where it was found.
        sha256: its digest, hexadecimal.
    """

    path: Path
    sha256: str


def input_files(*parts: object) -> dict[str, str]:
    """Find every :class:`InputFile` that the parts of a run hold, however deeply.

    Args:
        parts: a fitness, a sampler, a cost model, ...: objects of this package or derived from its classes, and
            lists and dictionaries of such.

    Returns:
        digest by path, sorted by path.
    """
    found: dict[str, str] = {}
    seen: set[int] = set()
    waiting = list(parts)
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, InputFile):
            found[str(value.path)] = value.sha256
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif any(kind.__module__.startswith(HOUSE) for kind in type(value).__mro__):
            waiting += getattr(value, "__dict__", {}).values()
    return dict(sorted(found.items()))
