"""What Lightning says that nobody can act on is dropped, whichever of its loggers says it."""

from __future__ import annotations

import logging

import pytest

from ednag.cli.quiet import silence_framework


@pytest.mark.parametrize("name", ["lightning.pytorch", "lightning.pytorch.trainer.connectors.checkpoint_connector"])
def test_records_of_every_logger_of_the_framework_are_filtered(name: str) -> None:
    heard: list[str] = []
    parent, handler = logging.getLogger("lightning.pytorch"), logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    parent.addHandler(handler)
    try:
        silence_framework()
        for words in ("`weights_only` was not set, defaulting to `False`.", "something of use"):
            logging.getLogger(name).warning(words)
    finally:
        parent.removeHandler(handler)
    assert heard == ["something of use"]
