"""What a run is made of: the classes and settings of its parts, to describe them and to tell two runs apart."""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

from torch import Tensor

PROGRESS = {"space", "device", "lookups", "evaluations", "failures", "generating", "unknown", "partial"}
"""Attributes of a fitness or a sampler that change with use, and are no settings."""


def fingerprint(*parts: object) -> str:
    """Digest of what a run is made of: classes and their plain settings, however deeply nested."""
    return hashlib.sha256(json.dumps([settings(part) for part in parts], sort_keys=True).encode()).hexdigest()


def settings(value: object) -> Any:
    """Write an object's plain public attributes as JSON; tensors and private attributes are left out.

    A class counts by its own name, without its module, so that a run can be resumed after the class has moved.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple, range)):
        return [settings(item) for item in value]
    if isinstance(value, dict):
        return {str(name): settings(item) for name, item in value.items()}
    public = {
        name: item
        for name, item in getattr(value, "__dict__", {}).items()
        if not name.startswith("_") and name not in PROGRESS
    }
    plain = {name: settings(item) for name, item in public.items() if not isinstance(item, Tensor)}
    return {"class": type(value).__qualname__, **plain}


def is_plain(value: object) -> bool:
    """Whether a value is a primitive, or a list, tuple or dictionary of nothing else."""
    if isinstance(value, (list, tuple)):
        return all(is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(name, str) and is_plain(item) for name, item in value.items())
    return value is None or isinstance(value, (bool, int, float, str))


def describe_object(value: object) -> dict[str, Any]:
    """Class path and constructor arguments of an object that keeps them under their own names; paths as text."""
    kind = type(value)
    names = [name for name in inspect.signature(kind).parameters if name in vars(value)]
    arguments = {name: vars(value)[name] for name in names}
    return {
        "class_path": f"{kind.__module__}.{kind.__qualname__}",
        "init_args": {name: str(item) if isinstance(item, Path) else item for name, item in arguments.items()},
    }
