"""``ednag data``: list the known data sets and benchmark tables, and import official files. Imports no torch itself."""

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


VERBS: dict[str, Callable[..., None]] = {"list": data_list, "import": data_import}
"""What `ednag data` can do; the arguments of each are read from its signature and docstring."""


def run(prog: str, words: list[str]) -> None:
    """Run ``ednag data``."""
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
