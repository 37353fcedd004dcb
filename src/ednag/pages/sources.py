"""The files of a run, read for its page; what is missing is empty."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ednag.core import reading

REMEDY = "resume the run, which writes it again"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if there is no such file.

    Raises:
        ValueError: if it is damaged.
    """
    if not path.exists():
        return {}
    return reading.read_json(path, "a result of a run", REMEDY, _an_object)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file; none if there is no such file.

    Raises:
        ValueError: if it is damaged.
    """
    if not path.exists():
        return []
    with reading.reading(path, "a table of a run", REMEDY):
        return list(csv.DictReader(io.StringIO(reading.read_bytes(path).decode("utf-8"), newline="")))


def _an_object(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}")
    return content


def number(text: str | None) -> float:
    """Read a cell of a CSV file; NaN if it is empty."""
    return float(text) if text else float("nan")


def column(rows: list[dict[str, str]], name: str) -> list[float]:
    """Read a column of a CSV file."""
    return [number(row.get(name)) for row in rows]


def notes(manifest: Mapping[str, Any], folder: Path) -> list[str]:
    """Say what a run was made with, in lines."""
    if not manifest:
        return [f"Folder: {folder.name}"]
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items() if version)
    seconds = ", ".join(f"{name.replace('_', ' ')} {value:,.0f} s" for name, value in manifest["seconds"].items())
    seeds = manifest["seeds"]
    told = [f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds from {seeds[0]}"] if seeds else []
    return [
        "; ".join(
            [f"Folder {folder.name}", f"made {_moment(manifest['created'])} on {manifest['device']}", *told, seconds]
        )
        + ".",
        f"Versions: {versions}.",
    ]


def _moment(created: str) -> str:
    """Write a moment as people do."""
    return f"{datetime.fromisoformat(created).astimezone(UTC):%Y-%m-%d at %H:%M} UTC"
