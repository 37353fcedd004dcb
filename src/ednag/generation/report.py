"""The result of a generation: its best architectures, written to and read from disk."""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ednag.core.reading import checked, read_json, reading
from ednag.core.storage import write_json
from ednag.spaces import SearchSpace

REPORT_VERSION = 1
"""Format of ``report.json``; a report of another version is refused."""


@dataclass(frozen=True)
class Candidate:
    """One reported architecture.

    Attributes:
        architecture: the field's text format (:meth:`SearchSpace.describe`).
        genes: integer genes.
        fitness: the score that generation maximised.
        scores: further scores by name (single proxies, a benchmark's metrics after generation).
        costs: by name: ``params``, ``macs``, ``latency_ms``.
        seed: the run that found it first.
        evaluation: after how many distinct evaluations of that run.

    Examples:
        >>> best = Candidate("64-1234-basic", [0, 1, 2, 3, 0, 0], fitness=47.1)
        >>> best.costs
        {}
    """

    architecture: str
    genes: list[int]
    fitness: float
    scores: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    evaluation: int = 0


@dataclass(frozen=True)
class Report:
    """Everything that ``report.json`` holds.

    Attributes:
        space: class path and arguments of the search space: ``{"class_path": ..., "init_args": {...}}``.
        fitness: name of the fitness.
        candidates: the best distinct architectures of all runs, best first.
        front: of a generation against a cost: ``objective``, its ``title``, and ``hypervolumes``, one a reference point
            (``reference``, ``cost``, ``fitness``, ``hypervolume`` of all runs together, ``mean`` and ``deviation`` over
            runs). The candidates are the front then.
        counts: seeds, look-ups, distinct evaluations, and the rates of valid, unique and novel architectures.
        limits: what each network was allowed to cost, by the names of :class:`ednag.costs.model.Limits`.
        version: :data:`REPORT_VERSION`.

    Examples:
        >>> import tempfile
        >>> report = Report({"class_path": "ednag.spaces.NASBench201"}, "accuracy, %", candidates=[])
        >>> path = Path(tempfile.mkdtemp()) / "report.json"
        >>> report.save(path)
        >>> Report.load(path).load_space().name
        'nasbench201'
    """

    space: dict[str, Any]
    fitness: str
    candidates: list[Candidate]
    counts: dict[str, float] = field(default_factory=dict)
    front: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    limits: dict[str, float] = field(default_factory=dict)
    version: int = REPORT_VERSION

    def save(self, path: Path) -> None:
        """Write the report as JSON, atomically."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a report.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is not a report, or of another version.
        """
        path = Path(path)
        if path.is_dir():
            path = path / "report.json"
        if not path.exists():
            raise FileNotFoundError(f"no report at {path}; `ednag generate` writes one as RUN/report.json")
        kind, remedy = "a report of `ednag generate`", "generate it again, or copy it again"
        content, version = read_json(path, kind, remedy, lambda found: (found, found["version"]))
        if version != REPORT_VERSION:
            raise ValueError(
                f"{path} is a report of version {version}, this program reads version {REPORT_VERSION}; "
                "generate it again or use the release that wrote it"
            )
        with reading(path, kind, remedy):
            candidates = [checked(Candidate, row) for row in content["candidates"]]
            return dataclasses.replace(checked(cls, {**content, "candidates": []}), candidates=candidates)

    def load_space(self) -> SearchSpace:
        """Make the search space that the report names.

        Raises:
            ValueError: if it can't be imported, or is no search space.
        """
        if not isinstance(self.space, dict):
            raise ValueError(f"the report names no search space: {self.space!r}")
        path = str(self.space.get("class_path", ""))
        module, _, name = path.rpartition(".")
        try:
            kind = getattr(importlib.import_module(module), name)
            known = isinstance(kind, type) and issubclass(kind, SearchSpace)  # nothing else is ever called
            space = kind(**self.space.get("init_args", {})) if known else None
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"the search space {path!r} can't be made ({error}); is its package installed?") from None
        if not isinstance(space, SearchSpace):
            raise ValueError(f"{path!r} is not a search space")
        return space
