"""Scoring architectures on an executor, with a journal: what has been scored is never scored again."""

from __future__ import annotations

import copy
import json
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ednag.core.journal import append_line, read_lines
from ednag.core.reading import matches
from ednag.execution import Call, Executor, Outcome
from ednag.execution.base import Observer
from ednag.fitness import Fitness

log = logging.getLogger(__name__)

JOURNAL = "evaluations.jsonl"
"""One line for each architecture that was scored on an executor: genes and what was found."""


class Measuring:
    """Scores architectures on an executor.

    Args:
        fitness: ready; workers are sent a copy of it that knows no scores.
        executor: where.
        folder: of the run; gets ``evaluations.jsonl``, and ``evaluations/*.txt``, what each evaluation said.
        observe: told what runs.
    """

    def __init__(self, fitness: Fitness, executor: Executor, folder: Path, observe: Observer | None = None) -> None:
        self.fitness, self.executor, self.folder, self.observe = fitness, executor, folder, observe
        for row in read_lines(folder / JOURNAL, "delete it to evaluate everything again", _is_row):
            genes = torch.tensor(row["genes"], device=fitness.device)
            if not fitness.knows(genes):
                fitness.remember(genes, row["found"])

    def measure(self, proposals: Iterator[Tensor | None]) -> Iterator[Tensor]:
        """Score architectures as they are proposed, see :class:`ednag.samplers.asynchronous.Measure`."""
        known: deque[Tensor] = deque()

        def calls() -> Iterator[Call | None]:
            for genes in proposals:
                if genes is None:
                    yield None
                elif self.fitness.knows(genes):
                    known.append(genes)
                else:
                    yield self._call(genes)

        outcomes = self.executor.run(calls(), self.folder, self._sent(), self.observe)
        try:
            for outcome in outcomes:
                yield from _drained(known)
                yield self._noted(outcome)
            yield from _drained(known)
        finally:
            outcomes.close()

    def kept(self) -> AbstractContextManager[None]:
        """Keep workers from round to round."""
        return self.executor.kept(self.folder, self._sent())

    def measure_all(self, genes: Tensor) -> None:
        """Score distinct architectures, int64 ``(n, L)``; returns when the last one has ended."""
        for _ in self.measure(iter(genes)):
            pass

    def _sent(self) -> Fitness:
        """The fitness, as workers need it."""
        sent = copy.copy(self.fitness)
        sent._known, sent._elsewhere = {}, None
        return sent

    def _call(self, genes: Tensor) -> Call:
        """The evaluation of one architecture."""
        name = str(int(self.fitness.space.identity(genes)))
        return Call(name, measure_one, (genes.tolist(),), log=Path("evaluations") / f"{name}.txt")

    def _noted(self, outcome: Outcome) -> Tensor:
        """Write an outcome into the journal, and let the fitness know."""
        genes = torch.tensor(outcome.call.arguments[0], device=self.fitness.device)
        found: dict[str, Any] = outcome.value if outcome.failure is None else {"error": outcome.failure.reason}
        append_line(self.folder / JOURNAL, json.dumps({"genes": genes.tolist(), "found": found}))
        self.fitness.remember(genes, found)
        return genes


def measure_one(root: Path, fitness: Fitness, genes: list[int]) -> dict[str, Any]:
    """Score one architecture in a worker."""
    with torch.inference_mode():
        return fitness.measure(torch.tensor(genes, device=fitness.device))


def _drained(known: deque[Tensor]) -> Iterator[Tensor]:
    while known:
        yield known.popleft()


def _is_row(content: Any) -> bool:
    """Whether a line of the journal is an evaluation."""
    return (
        matches(content, dict[str, Any])
        and matches(content.get("genes", 0), list[int])
        and matches(content.get("found"), dict[str, Any])
    )
