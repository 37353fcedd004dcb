"""What data is known, where it comes from, and whether it is on this machine. Nothing here downloads anything.

Files are looked for in this order: the path that the user gave; the folder named by the environment variable
``EDNAG_DATA``; ``data/downloads`` below the current folder, where imported official releases are; the tables that ship
with the package. What ``ednag data download NAME`` fetched is in a folder ``NAME`` of ``data/downloads``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from ednag.benchmarks.catalogue import CATALOGUE, DataSource
from ednag.core.inputs import sha256
from ednag.core.names import did_you_mean
from ednag.core.shipped import shipped

DOWNLOADS = Path("data/downloads")
"""Where imported tables are put by default, below the current folder; git ignores it."""

SHIPPED = shipped("data/benchmarks")
"""The tables that come with the package; its README says what they are."""

DIGESTS = "SHA256SUMS"
"""File in :data:`SHIPPED` with the digest of each table, as ``sha256sum`` writes it."""


@dataclass(frozen=True)
class Presence:
    """Whether an entry is here.

    Attributes:
        state: ``present``, ``to import`` (only the official release was found) or ``absent``.
        path: where it was found, if it was.
    """

    state: Literal["present", "to import", "absent"]
    path: Path | None = None


def entry(name: str) -> DataSource:
    """Return an entry of the catalogue.

    Raises:
        ValueError: if the name is unknown, listing the known ones.
    """
    for source in CATALOGUE:
        if source.name == name:
            return source
    known = [source.name for source in CATALOGUE]
    raise ValueError(f"no data called {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")


def search_folders() -> list[Path]:
    """List the folders that are searched, in order; see the module's description."""
    named = os.environ.get("EDNAG_DATA")
    return [*([Path(named)] if named else []), DOWNLOADS, SHIPPED]


def presence(name: str) -> Presence:
    """Look for an entry in the search folders, and, for ``digits``, inside scikit-learn.

    Raises:
        ValueError: if the name is unknown.
    """
    source = entry(name)
    folders = search_folders()
    if name == "digits" and (package := find_spec("sklearn")) and package.origin:
        folders.append(Path(package.origin).parent / "datasets" / "data")
    for state, names in (("present", source.files), ("to import", source.official)):
        for folder in folders:
            for path in (place / file for file in names for place in (folder, folder / name)):
                if path.exists():
                    return Presence("present" if state == "present" else "to import", path)
    return Presence("absent")


def locate(table: str | Path) -> Path:
    """Find the file of a benchmark table.

    Args:
        table: a path, or a name of the catalogue (``nasbench201``).

    Returns:
        an existing path.

    Raises:
        ValueError: if it is neither a file nor a benchmark of the catalogue.
        FileNotFoundError: if it is not on this machine, saying where it was looked for and how to get it.
    """
    path = Path(table).expanduser()
    if path.is_file():
        return path
    if path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(f"no benchmark table at {path}; `ednag data list` shows what is known and present")
    source = entry(str(table))
    if source.kind != "benchmark":
        raise ValueError(f"{table} is {source.kind}, not a benchmark table")
    found = presence(source.name)
    if found.state == "present" and found.path is not None and found.path.is_file():
        return found.path
    if found.state == "to import":
        raise FileNotFoundError(f"{table} has to be imported first: ednag data import {table} {found.path}")
    raise FileNotFoundError(
        f"{table} is absent: {source.files[0]} is in none of {', '.join(map(str, search_folders()))}. "
        f"Get it from {source.home} (`ednag data list` says more), or set EDNAG_DATA to its folder"
    )


def check_shipped(path: Path, digest: str) -> None:
    """Make sure that a shipped table is as it was shipped.

    Args:
        path: of a file in :data:`SHIPPED`.
        digest: its SHA-256.

    Raises:
        ValueError: if the list of digests has another one for it, or none.
    """
    lines = (SHIPPED / DIGESTS).read_text(encoding="utf-8").splitlines()
    expected = {name.lstrip("*"): digest for digest, name in (line.split() for line in lines)}
    if expected.get(path.name) != digest:
        raise ValueError(
            f"{path} is not the table that ships with EDNAG: its SHA-256 is {digest[:12]}..., "
            f"{DIGESTS} has {expected.get(path.name, 'none')[:12]}...; install EDNAG again, "
            "and keep tables of your own in data/downloads or EDNAG_DATA"
        )


def describe_source(source: DataSource) -> str:
    """Write everything that is known of an entry: where from, licence, size, checksum, and where it is on this machine."""
    found = presence(source.name)
    shown = [field.name for field in fields(source) if field.name not in ("name", "kind", "title", "files", "official")]
    lines = [f"{source.name}: {source.title}"]
    lines += [f"  {label:<9} {getattr(source, label)}" for label in shown]
    where = str(found.path) if found.path else f"absent; expected as {' or '.join(source.files)}"
    if found.state == "to import":
        where += f" (official files: `ednag data import {source.name} {found.path}`)"
    elif found.path and found.path.suffix == ".npz":
        where += f" ({found.path.stat().st_size:,} bytes, sha256 {sha256(found.path)})"
    return "\n".join([*lines, f"  {'where':<9} {where}"])
