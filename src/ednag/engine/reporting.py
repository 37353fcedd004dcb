"""The page of a run that has ended, and the same pictures and tables to its trackers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from ednag.pages.blocks import Chart, Matrix, Page, Table
from ednag.pages.numbers import shown
from ednag.pages.png import png
from ednag.pages.write import write_page


@rank_zero_only
def finish(folder: Path, loggers: Sequence[Logger]) -> None:
    """Write ``report.html`` into a run's directory, and log what it shows to W&B and TensorBoard."""
    log_page(write_page(folder), loggers)


def log_page(page: Page, loggers: Sequence[Logger]) -> None:
    """Log the charts and tables of a page, as ``report/NAME``; other loggers than W&B and TensorBoard have no place."""
    trackers = [one for one in loggers if isinstance(one, (pl.loggers.WandbLogger, pl.loggers.TensorBoardLogger))]
    if not trackers:
        return
    for block in page.blocks():
        if isinstance(block, (Chart, Matrix)):
            picture = Image.open(io.BytesIO(png(block))).convert("RGB")
            for tracker in trackers:
                log_picture(tracker, f"report/{block.name}", picture)
        elif isinstance(block, Table):
            for tracker in trackers:
                log_table(tracker, f"report/{block.name}", block)
    for tracker in trackers:
        tracker.save()


def log_picture(tracker: Any, key: str, picture: Image.Image) -> None:
    """Log one picture."""
    if isinstance(tracker, pl.loggers.WandbLogger):
        tracker.log_image(key, [picture])
    else:
        tracker.experiment.add_image(key, np.asarray(picture), dataformats="HWC")


def log_table(tracker: Any, key: str, table: Table) -> None:
    """Log one table; TensorBoard shows it as Markdown."""
    if isinstance(tracker, pl.loggers.WandbLogger):
        tracker.log_table(key, columns=list(table.header), data=[list(row) for row in table.rows])
        return
    cells = [[shown(cell).replace("|", "\\|") for cell in row] for row in table.rows]
    lines = [list(table.header), ["---"] * len(table.header), *cells]
    tracker.experiment.add_text(key, "\n".join(f"| {' | '.join(line)} |" for line in lines))


def reopened(logger: Any) -> Any:
    """Return a logger that can be written to again: a W&B run that was finished for those of its networks goes on."""
    if not isinstance(logger, pl.loggers.WandbLogger):
        return logger
    import wandb

    wandb.finish()
    options = {k: v for k, v in logger._wandb_init.items() if k in ("project", "entity", "mode", "tags", "group")}
    return pl.loggers.WandbLogger(
        name=logger._wandb_init.get("name"),
        save_dir=logger.save_dir or ".",
        version=logger.version,
        resume="allow",
        **options,
    )
