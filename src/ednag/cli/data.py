"""``ednag data``: list the known data sets and benchmark tables, fetch, import and check them. Imports no torch itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ednag.benchmarks.catalogue import CATALOGUE
from ednag.benchmarks.locate import describe_source, entry, presence, search_folders
from ednag.cli.output import say, text_table
from ednag.cli.verbs import choose_function


def data_list(name: str | None = None) -> None:
    """List the data sets and benchmark tables that are known, and which are here.

    Args:
        name: tell everything that is known of this one, such as nasbench201.
    """
    say(list_data(name))


def data_import(name: str, source: Path, *, output: Path | None = None) -> None:
    """Import official files: a benchmark release as a table, or the meta data of a predictor.

    Args:
        name: of the data, as `ednag data list` names them.
        source: file or folder of the release.
        output: where to write; in data/downloads by default.
    """
    from ednag.cli.importing import import_table

    say(f"written: {import_table(name, source, output)}")


def data_download(name: str, *, folder: Path | None = None, from_url: str | None = None, timeout: float = 60) -> None:
    """Fetch files that have a direct public address; called again, it goes on where it was cut off.

    Args:
        name: of the data, as `ednag data list` names them.
        folder: where to; data/downloads/NAME by default.
        from_url: address of a folder that holds the same files, in place of the known addresses; also `--from`.
        timeout: seconds without any byte after which a server counts as gone.
    """
    from ednag.benchmarks.fetch import download

    for path in download(name, folder, from_url, timeout):
        say(f"here: {path}")
    found = presence(name)
    if found.state == "to import":
        say(f"next: ednag data import {name} {found.path}")


def data_check(name: str, table: Path | None = None) -> None:
    """Compare an imported benchmark table with the one that ships, cell by cell.

    Args:
        name: of the benchmark, as `ednag data list` names them.
        table: the imported table; what the name stands for on this machine by default.
    """
    from ednag.benchmarks.check import compare_with_shipped

    found = compare_with_shipped(name, table)
    say(f"{found.imported}\nagainst {found.shipped}")
    say("architectures: {:,} in yours, {:,} in the shipped table, {:,} in both".format(*found.architectures))
    say(text_table(["column", "compared", "differing", "largest difference"], found.columns))
    for title, names in (("only in yours", found.added), ("only in the shipped table", found.missing)):
        if names:
            say(f"{title}: {', '.join(names)}")
    if found.cells:
        raise ValueError(f"{found.cells:,} values of {found.imported} differ from the shipped table of {name}")
    say("equal in every cell")


VERBS: dict[str, Callable[..., None]] = {
    "list": data_list,
    "download": data_download,
    "import": data_import,
    "check": data_check,
}
"""What `ednag data` can do; the arguments of each are read from its signature and docstring."""


def run(prog: str, words: list[str]) -> None:
    """Run ``ednag data``."""
    words = [f"--from_url{word[6:]}" if word.partition("=")[0] == "--from" else word for word in words]
    choose_function(prog, "The data sets and benchmark tables that EDNAG knows.", VERBS, words)()


def list_data(name: str | None = None) -> str:
    """Describe the data that EDNAG knows.

    Args:
        name: one entry, such as ``nasbench201``, of which all that is known is told; by default a table of all of them.

    Raises:
        ValueError: if the name is unknown.
    """
    if name is not None:
        return describe_source(entry(name))
    header = ["name", "kind", "here", "licence", "shape"]
    rows = [[s.name, s.kind, presence(s.name).state, s.licence.split(";")[0], s.shape] for s in CATALOGUE]
    ends = ["looked for in: " + ", ".join(map(str, search_folders())), "`ednag data list NAME` tells all of one."]
    return "\n".join([text_table(header, rows), "", *ends])
