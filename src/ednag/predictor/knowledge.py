"""Knowledge from benchmark tables of other data sets, as it ships: one source per data set or task.

``experiments/knowledge.py`` makes the files, ``predictors/knowledge/README.md`` is their card. A source must never teach
about its own data set: :func:`teachers` leaves it out by its name and by the content of its table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ednag.benchmarks.arrays import Arrays, read_arrays
from ednag.core.archive import average_rank
from ednag.core.inputs import InputFile, sha256
from ednag.core.shipped import shipped
from ednag.predictor.smoothing import class_means
from ednag.spaces.base import SearchSpace, find_space, gene_strings
from ednag.spaces.nasbench201 import OPERATIONS
from ednag.spaces.transnas101_cells import OPERATIONS as MICRO_OPERATIONS

KNOWLEDGE = shipped("predictors") / "knowledge"
"""The shipped sources: a file for each space, and ``sources.json`` with their digests."""

FORMAT = 1
"""Version of the layout of these files."""

ALIKE = 0.99
"""Rank correlation from which two tables are the same: siblings reach .984, validation and test of one data set less."""

EDGE_OPERATIONS = {"nasbench201": OPERATIONS, "transnas101_micro": MICRO_OPERATIONS}
"""Spaces whose cells have the same six edges, so that the cells that both can write mean the same."""


@dataclass(frozen=True)
class Source:
    """What the table of one data set says of a search space.

    Attributes:
        name: ``nasbench201/cifar10``: the table's space, and the data set or task.
        scores: float64 ``(P,)`` in the order of codes of the space that is searched, standard deviations above a
            random architecture; NaN if unknown.
        codes: some codes of the table's own space, int64 ``(K,)``.
        sketches: what the table has at these codes, a row for each split and length of training, float64 ``(M, K)``:
            to recognise it.
        held_out: how well the others of its space predict it, by name; see the card.
    """

    name: str
    scores: Tensor
    codes: Tensor
    sketches: Tensor
    held_out: Mapping[str, float] = field(default_factory=dict)

    @property
    def space(self) -> str:
        """Name of the table's space."""
        return self.name.split("/")[0]

    @property
    def dataset(self) -> str:
        """Name of the data set or task."""
        return self.name.split("/")[1]

    def holds(self, measured: Mapping[str, Tensor]) -> bool:
        """Tell whether these measurements are this source's, up to rounding and any increasing transformation.

        Args:
            measured: values in the order of codes of the table's space, float64 ``(P,)``, by the name of the metric.
        """
        return any(
            _correlation(values[self.codes], sketch) > ALIKE for values in measured.values() for sketch in self.sketches
        )


def known_spaces() -> list[str]:
    """Names of the spaces about which tables teach."""
    return sorted(_read_config()["files"])


def load_sources(space: SearchSpace, related: bool = False) -> tuple[list[Source], list[InputFile]]:
    """Read every source that can serve a space.

    Args:
        space: NAS-Bench-201, or a space of TransNAS-Bench-101.
        related: whether to read those of a related space instead: cells of NAS-Bench-201 and of TransNAS-Bench-101
            (micro) serve each other, but for those with pooling, of which micro tables know nothing.

    Returns:
        the sources, and the files that were read.

    Raises:
        ValueError: if no table is of that space, or a file is damaged.
    """
    config = _read_config()
    if space.name not in config["files"]:
        raise ValueError(
            f"no benchmark table teaches about {space.name}, only about {', '.join(known_spaces())}; "
            "name a fitness: --fitness CLASS"
        )
    others = [name for name in EDGE_OPERATIONS if space.name in EDGE_OPERATIONS and name != space.name]
    sources: list[Source] = []
    files: list[InputFile] = []
    for table in others if related else [space.name]:
        file, arrays = _read(table, config)
        files.append(file)
        sources += _sources(arrays, table, space)
    return sources, files


def teachers(
    sources: Sequence[Source], datasets: Sequence[str], space: str, measured: Mapping[str, Tensor]
) -> list[Source]:
    """Leave out what was learned from the target itself.

    Args:
        sources: all there are.
        datasets: names of the target, as far as they are known.
        space: name of the space in which ``measured`` counts codes.
        measured: the target's table, see :meth:`Source.holds`; empty if there is none.

    Returns:
        the sources of other names and other content.
    """
    names = {plain(name) for name in datasets}
    return [
        source
        for source in sources
        if plain(source.dataset) not in names and not (source.space == space and source.holds(measured))
    ]


def pick(sources: Sequence[Source], wanted: Sequence[str], space: str) -> list[Source]:
    """Choose sources by name, such as ``nasbench201/cifar10`` or ``cifar10``.

    Raises:
        ValueError: if there is none of a name, listing those there are.
    """
    by_name = {name: source for source in reversed(sources) for name in (source.name, source.dataset)}
    for name in wanted:
        if name not in by_name:
            raise ValueError(
                f"no source {name!r} can serve {space}; allowed: {', '.join(source.name for source in sources)}"
            )
    return [by_name[name] for name in wanted]


def common(sources: Sequence[Source]) -> Tensor:
    """Average sources: float64 ``(P,)``, over those that know an architecture; NaN where none does."""
    return torch.stack([source.scores for source in sources]).nanmean(0)


def _sources(arrays: Arrays, table: str, space: SearchSpace) -> list[Source]:
    """Make the sources of one file, for a space."""
    place = _places(torch.from_numpy(arrays["keys"].astype("int64")), table, space)
    codes = torch.from_numpy(arrays["sketch_codes"].astype("int64"))
    sketched = [str(name).split("/")[0] for name in arrays["sketch_names"]]
    found = []
    for i, dataset in enumerate(str(name) for name in arrays["names"]):
        scores = torch.from_numpy(arrays["scores"][i].astype("float64"))
        scores = torch.cat([scores, scores.new_tensor([torch.nan])])[place]
        rows = [row for row, name in enumerate(sketched) if name == dataset]
        held_out = dict(zip(map(str, arrays["held_out_names"]), arrays["held_out"][i].tolist(), strict=True))
        found.append(
            Source(
                f"{table}/{dataset}",
                scores if table == space.name else settle(scores, space),
                codes,
                torch.from_numpy(arrays["sketches"][rows].astype("float64")),
                held_out,
            )
        )
    return found


def _places(keys: Tensor, table: str, space: SearchSpace) -> Tensor:
    """Find the class of every code of a space among the ``C`` classes of a table, int64 ``(P,)``; ``C`` if there is none."""
    genes = gene_strings(space.cardinalities)
    if table == space.name:
        there, known = space, space.valid(genes)
    else:
        there = find_space(table)
        ours, theirs = EDGE_OPERATIONS[space.name], EDGE_OPERATIONS[table]
        symbols = torch.tensor([theirs.index(name) if name in theirs else -1 for name in ours])
        genes = symbols[genes]
        known = (genes >= 0).all(-1)
    own = there.identity(genes.where(known[:, None], 0))
    place = torch.searchsorted(keys, own).clamp(max=len(keys) - 1)
    return place.where(known & (keys[place] == own), len(keys))


def settle(scores: Tensor, space: SearchSpace) -> Tensor:
    """Give isomorphic cells the mean of those that are known, and the known classes mean 0 and variance 1; ``(P,)``."""
    place = torch.unique(space.identity(gene_strings(space.cardinalities)), return_inverse=True)[1]
    known = scores.isfinite()
    means = class_means(scores.nan_to_num(), place) / class_means(known, place)
    finite = means[means.isfinite()]
    return ((means - finite.mean()) / finite.std(correction=0))[place]


def _correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of what is finite in both; 0 where that is less than half."""
    both = a.isfinite() & b.isfinite()
    if int(both.sum()) * 2 < len(both):
        return 0.0
    ranks = torch.stack([average_rank(x[both].double(), both[both]) for x in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1].nan_to_num(0.0))


def plain(name: str) -> str:
    """Write the name of a data set in lower case, letters and digits only."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _read_config() -> dict[str, Any]:
    path = KNOWLEDGE / "sources.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = config["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not list the shipped knowledge ({error}); install EDNAG again") from None
    if version != FORMAT:
        raise ValueError(f"{KNOWLEDGE} is of format {version}, this program reads format {FORMAT}; install EDNAG again")
    return config


def _read(table: str, config: Mapping[str, Any]) -> tuple[InputFile, Arrays]:
    path = Path(KNOWLEDGE / f"{table}.npz")
    file = InputFile(path, sha256(path) if path.is_file() else "")
    if file.sha256 != config["files"][table]:
        raise ValueError(f"{path} is missing or damaged: its sha256 is not the listed one; install EDNAG again")
    return file, read_arrays(path)
