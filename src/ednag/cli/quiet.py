"""What Lightning says that no user of this program can act on."""

from __future__ import annotations

import logging
import warnings

UNWANTED = ("Tip:", "`weights_only` was not set")
"""Words of log records to drop."""


def silence_framework() -> None:
    """Drop Lightning's advertisements, and its warnings about what this program does on purpose."""
    for name in (
        "lightning.pytorch",
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.rank_zero",
        "lightning.pytorch.trainer.connectors.checkpoint_connector",  # a parent's filter doesn't see a child's records
    ):
        logging.getLogger(name).addFilter(_wanted)
    for pattern in (".*LeafSpec.*", ".*does not have many workers.*", ".*weights_only.*", ".*lr_scheduler.step.*"):
        warnings.filterwarnings("ignore", pattern)


def _wanted(record: logging.LogRecord) -> bool:
    """Tell whether a log record may be of use."""
    return not any(words in record.getMessage() for words in UNWANTED)
