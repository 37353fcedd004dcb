"""Calls one after the other, in this process."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ednag.execution.base import Call, Executor, Observer, Outcome, failed


class InProcess(Executor):
    """One call after the other, in this process: the default.

    Examples:
        >>> InProcess().workers
        1
    """

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def run(
        self, calls: Iterable[Call | None], root: Path, common: Any = None, observe: Observer | None = None
    ) -> Generator[Outcome, None, None]:
        """Run calls, see :meth:`Executor.run`."""
        for call in calls:
            if call is None:  # nothing runs, so nothing will change
                return
            try:
                with logged(None if call.log is None else root / call.log):
                    outcome = Outcome(call, call.function(root, common, *call.arguments))
            except Exception as error:
                outcome = Outcome(call, failure=failed(error))
            if observe is not None:
                observe(())
            yield outcome


@contextmanager
def logged(path: Path | None) -> Iterator[None]:
    """Append what is logged meanwhile to a file."""
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
