"""Files on disk: written whole or not at all, and read without running what they contain."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from ednag.core.reading import check_archive, reading, regular

PART = ".part"
"""Ending of a file that is being written, whose name begins with a dot; a kill leaves it behind."""


def atomic_write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that a reader, or a kill at any moment, sees the old content or the new, never a part.

    Args:
        path: the file; its folder is made if it is missing.
        write: called with a binary stream.

    Raises:
        OSError: if it can't be written, naming the file.
    """
    path = Path(path)
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    raw = _Remembering(handle, "wb")
    try:
        with _naming(path):
            try:
                with io.BufferedWriter(raw) as stream:
                    write(stream)
                    stream.flush()
                    os.fsync(stream.fileno())
            except Exception:
                if raw.error is not None:  # what writes archives hides it behind errors of its own
                    raise raw.error from None
                raise
            os.chmod(name, 0o644)
            os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class _Remembering(io.FileIO):
    """A file that keeps the first error of the disk."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write, as the base class does."""
        try:
            return super().write(data)
        except OSError as error:
            self.error = self.error or error
            raise


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an error of the disk name the file, not the unfinished one beside it."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, indented, with sorted keys where order carries nothing."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    atomic_write(path, lambda stream: stream.write(text.encode()))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, atomically; the columns are the keys of all rows, in order of appearance.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: _harmless(value) for name, value in row.items()} for row in rows])
    atomic_write(path, lambda stream: stream.write(text.getvalue().encode()))


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Save tensors and primitives with :func:`torch.save`, atomically."""
    atomic_write(path, lambda stream: torch.save(state, stream))


def load_state(
    path: Path, device: torch.device | str = "cpu", remedy: str = "delete it to start over, or copy it again"
) -> dict[str, Any]:
    """Read what :func:`save_state` wrote (``weights_only``: no code runs), and check that not a bit of it has changed.

    Args:
        path: the file.
        device: where tensors go.
        remedy: what to do if it is damaged.

    Raises:
        ValueError: if the file is damaged.
    """
    check_archive(Path(path), "a saved state", remedy, old=True)
    with reading(path, "a saved state", remedy):
        state = torch.load(regular(Path(path)), map_location=device, weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}")
        return state
