"""A class that takes another's place starts from its own defaults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import jsonargparse._typehints as typehints
from jsonargparse import Namespace


@contextmanager
def own_defaults() -> Iterator[None]:
    """Let a class start from its own defaults while the line is parsed.

    By itself, jsonargparse hands the options of the class before, in a configuration or preset, on to the next one as far
    as that accepts them: ``--preset default --sampler Bananas`` would keep the preset's ``initial`` and ``batch``.
    """
    with patch.object(typehints, "discard_init_args_on_class_path_change", _discard_all):
        yield


def _discard_all(_: Any, before: Any, value: Any) -> None:
    """Drop the options of the class before if the class has changed."""
    if before and "init_args" in before and before["class_path"] != value["class_path"]:
        before["init_args"] = Namespace()  # type: ignore[no-untyped-call]
