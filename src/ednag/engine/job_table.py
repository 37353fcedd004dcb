"""What workers are doing, as a table that keeps itself up to date."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import lightning.pytorch as pl
from rich.console import Console
from rich.live import Live
from rich.table import Table

from ednag.execution import note
from ednag.execution.base import Running
from ednag.execution.notes import noted
from ednag.retraining.training import TrainerFactory

MOST = 40
"""Rows shown at a time."""


class JobTable:
    """A table of the calls under way, on stderr; nothing where that is no terminal.

    Args:
        title: what is done.
        root: folder of the run, below which the calls keep their notes.
        shown: whether there is a table at all.
        console: where it goes; stderr if omitted.
    """

    def __init__(self, title: str, root: Path, shown: bool, console: Console | None = None) -> None:
        self.title, self.root = title, root
        console = console or Console(stderr=True)
        self.live = Live(console=console, auto_refresh=False, transient=True) if shown and console.is_terminal else None

    def __enter__(self) -> JobTable:
        """Begin."""
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the table."""
        if self.live is not None:
            self.live.stop()

    def show(self, running: Sequence[Running]) -> None:
        """Show what runs now."""
        if self.live is not None:
            self.live.update(self.table(running), refresh=True)

    def table(self, running: Sequence[Running]) -> Table:
        """Lay the table out."""
        table = Table("job", "attempt", "minutes", "how far", title=f"{self.title}: {len(running)} running")
        for one in running[:MOST]:
            far = "" if one.call.log is None else noted(self.root / one.call.log)
            minutes = (time.monotonic() - one.since) / 60
            table.add_row(one.call.name, str(one.attempt), f"{minutes:.1f}", far)
        if len(running) > MOST:
            table.add_row(f"and {len(running) - MOST} more", "", "", "")
        return table


@dataclass(frozen=True)
class Noting:
    """A factory of Trainers whose trainings note how far they are, for the table.

    Attributes:
        factory: makes the Trainers.
    """

    factory: TrainerFactory

    def __call__(self, *, folder: Path, max_epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
        """Make a Trainer."""
        return self.factory(folder=folder, max_epochs=max_epochs, callbacks=[*callbacks, EpochNotes()])


class EpochNotes(pl.Callback):
    """Note each epoch of a training as it begins, with the accuracy before."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the epoch."""
        reached = trainer.callback_metrics.get("val/top1")
        known = "" if reached is None else f", valid top-1 {float(reached):.1f} %"
        note(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}{known}")
