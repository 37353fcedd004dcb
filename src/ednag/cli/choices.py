"""Which classes an option offers: the public ones of this project, and those of a user's imported packages."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, get_args, get_type_hints

import lightning.pytorch as pl
from lightning.pytorch.cli import LightningCLI

from ednag.cli.help import class_help, plain
from ednag.core.names import unknown
from ednag.engine.trainer import Trainer

COMMON: dict[str, type] = {"model": pl.LightningModule, "data": pl.LightningDataModule}
"""Options of every verb whose value is a class."""

FRAMEWORK = ("lightning", "pytorch_lightning", "torch", "torchmetrics")
"""Packages whose own classes are no choice here."""


def kinds(verb: str) -> dict[str, type]:
    """Find the options of a verb that take a class, each with its base class."""
    found = dict(COMMON)
    for name, hint in get_type_hints(getattr(Trainer, verb)).items():
        for kind in _classes(hint):
            if kind.__module__.startswith("ednag.") and name not in ("return", *COMMON):
                found[name] = kind
    return found


def offered(kind: type, verb: str) -> dict[str, type]:
    """List the concrete subclasses of a class (and itself) that a user may choose for a verb, by short name.

    Of this project's, those that their room exports: internal ones, such as
    :class:`~ednag.fitness.constrained.ConstrainedFitness`, have no place on the command line. What predictors are made of
    is for Lightning's verbs, which train them.
    """
    trained = verb in LightningCLI.subcommands()
    found: dict[str, type] = {}
    waiting = [kind]
    while waiting:
        one = waiting.pop(0)
        waiting += one.__subclasses__()
        if _concrete(one) and _public(one) and (trained or not one.__module__.startswith("ednag.predictor.")):
            found[one.__name__] = one
    return dict(sorted(found.items())) or {kind.__name__: kind}


def first_line(kind: type) -> str:
    """Return the first line of a class's docstring."""
    return (inspect.getdoc(kind) or "").split("\n")[0]


def option_help(option: str, choices: Mapping[str, type], word: str) -> str:
    """Write the help of an option that takes a class.

    Args:
        option: its name.
        choices: classes by short name.
        word: what follows: a class, by short name or path, to tell the options of; or another option.

    Raises:
        ValueError: if there is no such class, naming those that are near.
    """
    if len(choices) == 1 and word.startswith("-"):
        return class_help(option, *choices.values())
    if word.startswith("-"):
        return _list(option, choices)
    if word in choices:
        return class_help(option, choices[word])
    module, _, name = word.rpartition(".")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        kind = None
    if not isinstance(kind, type):
        raise ValueError(unknown(f"class for --{option}", word, choices))
    return class_help(option, kind)


def _list(option: str, choices: Mapping[str, type]) -> str:
    """Write the classes that an option offers, a line each."""
    width = max(map(len, choices))
    lines = [f"  {name:<{width}}  {plain(first_line(one))}" for name, one in choices.items()]
    example = next(iter(choices))
    return "\n".join(
        [
            f"--{option} takes one of these, or a class of your own by its path, package.module.Class:",
            "",
            *lines,
            "",
            f"`--{option}.help {example}` shows the options of one.",
        ]
    )


def _concrete(kind: type) -> bool:
    """Tell whether a class has no abstract methods, also if it isn't derived from ``ABC``."""
    return not any(getattr(getattr(kind, name, None), "__isabstractmethod__", False) for name in dir(kind))


def _public(kind: type) -> bool:
    """Tell whether a class is one that users are meant to name."""
    root, *rest = kind.__module__.split(".")
    if root != "ednag":
        return root not in FRAMEWORK and not kind.__name__.startswith("_") and "<locals>" not in kind.__qualname__
    room = sys.modules[f"ednag.{rest[0]}"]
    return kind.__name__ in getattr(room, "__all__", ())


def _classes(hint: Any) -> list[type]:
    """Find the classes in a type hint, such as ``dict[str, Sampler]`` or ``Fitness | None``."""
    inner = [found for part in get_args(hint) for found in _classes(part)]
    return inner or ([hint] if isinstance(hint, type) else [])
