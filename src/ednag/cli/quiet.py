"""What Lightning says that no user of this program can act on."""

from __future__ import annotations

import logging
import warnings

UNWANTED = (
    "Tip:",
    "`weights_only` was not set",
    "Seed set to",
    "GPU available: False",
    "TPU available: False",
    "to estimate number of stepping batches",
    "`Trainer.fit` stopped: `max_epochs",
)
"""Words of log records to drop."""

WARNINGS = (
    ".*LeafSpec.*",
    ".*does not have many workers.*",
    ".*weights_only.*",
    ".*lr_scheduler.step.*",
    ".*smaller than the logging interval.*",
    ".*add_instantiator.*",
    ".*instantiate_classes.*",
    ".*skip_none.*",
)
"""Patterns of warnings to drop: of what this program does on purpose, or Lightning does inside."""


def silence_framework() -> None:
    """Drop Lightning's advertisements, and its warnings about what this program does on purpose.

    The filter is on handlers: one on a logger would not see the records of the loggers below it.
    """
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(wanted)
    for pattern in WARNINGS:
        warnings.filterwarnings("ignore", pattern)


def wanted(record: logging.LogRecord) -> bool:
    """Tell whether a log record may be of use."""
    return not any(words in record.getMessage() for words in UNWANTED)
