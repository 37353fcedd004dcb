"""The help of a verb that runs in a Trainer: EDNAG's own options first, Lightning's on request."""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import get_args, get_origin

from jsonargparse import ArgumentParser

from ednag.cli.line import FLAGS

WIDEST = 100
"""Columns of help on a wide terminal."""

RUN = {
    "config": "Configuration: a file, or a shipped one by name (`ednag configs`); may be given several times.",
    "preset": "The sampler by name: default, paper or released-code.",
    "run_dir": "New directory for this run's results; runs/VERB-TIME-xxxxxxxx by default.",
    "resume": "Directory of a killed run to continue.",
    "seed_everything": "Seed of Python, NumPy and PyTorch before anything is made.",
    "print_config": "Print the configuration that would run, and exit.",
}
"""Options of every run, and what they say here."""

DESCRIBED = {
    **RUN,
    "model": "The LightningModule to train or measure.",
    "data": "Images of the task, or the data of the model.",
    "ckpt_path": "Checkpoint to begin from: a path, or best, last.",
    "weights_only": "Whether a checkpoint may hold tensors and plain values only: safe for a stranger's.",
    "return_predictions": "Whether to return what is predicted.",
    "verbose": "Whether to print the results.",
}
"""What Lightning's own options say here, in place of long docstrings."""

VALUELESS = (*FLAGS, "print_config")
"""Options that are shown without a value."""

VALUES = {int: "N", float: "X", bool: "true|false", Path: "PATH", str: "NAME"}
"""What stands for a value of a type."""


def verb_help(parser: ArgumentParser, prog: str, kinds: Collection[str], unused: Collection[str]) -> str:
    """Write the help of a verb.

    Args:
        parser: of the verb.
        prog: the program and the verb: ``ednag generate``.
        kinds: options that take a class.
        unused: options that this verb has no use for; they are not shown.
    """
    options = [a for a in _options(parser) if a.dest.split(".")[0] not in ("trainer", *unused)]
    run = {action.dest: action for action in options if action.dest in RUN}
    parts = [action for action in options if action.dest in kinds]
    own = [action for action in options if action not in parts and action.dest not in RUN]
    formatter = _formatter(prog)
    formatter.add_usage(f"{prog} [--config NAME] [options]", [], [])
    formatter.add_text(plain(parser.description or ""))
    _section(formatter, "made of (--OPTION.help lists what to choose from, --OPTION.help CLASS its options)", parts)
    _section(formatter, "options", own)
    _section(formatter, "configuration and run", [run[name] for name in RUN if name in run])
    order = "--preset over --config" if "preset" in run else "--config over the defaults"
    formatter.add_text(f"Typed options win over {order}, whatever their places; of several --config the last wins.")
    formatter.add_text(
        f"Lightning's own options, such as --trainer.accelerator and --trainer.devices: {prog} --trainer.help"
    )
    return formatter.format_help()


def trainer_help(parser: ArgumentParser, prog: str) -> str:
    """Write the help of the options of Lightning's Trainer."""
    formatter = _formatter(prog)
    _section(formatter, "Lightning's Trainer", [a for a in _options(parser) if a.dest.startswith("trainer.")])
    return formatter.format_help()


def class_help(option: str, kind: type) -> str:
    """Write the help of one class that an option offers: what it is, and its constructor's arguments."""
    parser = ArgumentParser()
    parser.add_class_arguments(kind, option, fail_untyped=False)
    formatter = _formatter(f"--{option}")
    formatter.add_text(f"--{option} {kind.__name__}: {plain((inspect.getdoc(kind) or '').split(chr(10) + chr(10))[0])}")
    _section(formatter, "options", [a for a in _options(parser) if a.dest not in ("config", "print_config", option)])
    return formatter.format_help()


def plain(text: str) -> str:
    """Strip a docstring of its markup."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"\1", inspect.cleandoc(text))
    return text.replace("``", "")


def _formatter(prog: str) -> argparse.HelpFormatter:
    width = min(shutil.get_terminal_size().columns, WIDEST)
    return argparse.HelpFormatter(prog, max_help_position=26, width=width)


def _section(formatter: argparse.HelpFormatter, title: str, actions: Iterable[argparse.Action]) -> None:
    formatter.start_section(title)
    for action in actions:
        formatter.add_argument(_shown(action))
    formatter.end_section()


def _options(parser: ArgumentParser) -> list[argparse.Action]:
    """List what can be typed, but for help."""
    return [a for a in parser._actions if a.option_strings and not any(o.endswith("help") for o in a.option_strings)]


def _shown(action: argparse.Action) -> argparse.Action:
    """Copy an option with a short text, its default, and the kind of value it takes."""
    told = DESCRIBED.get(action.dest.removeprefix("trainer.")) or plain(action.help or "")
    text = (told[:1].upper() + told[1:]).replace("%", "%%")
    default = action.default
    shown = isinstance(default, int | float | str | list | dict) and default != argparse.SUPPRESS
    if shown and action.dest not in VALUELESS:
        text += f" (default: {str(default).replace('%', '%%')})"
    if action.required:
        text += " (required)"
    flag = action.nargs == 0 or action.dest in VALUELESS
    return argparse.Action(
        action.option_strings,
        action.dest,
        nargs=0 if flag else None,
        help=text,
        metavar=None if flag else _value(action),
    )


def _value(action: argparse.Action) -> str:
    """Name the kind of value that an option takes."""
    hint = getattr(action, "_typehint", None)
    if hint is None:
        return "NAME"
    inner = [part for part in get_args(hint) or (hint,) if part is not type(None)]
    literals = [value for part in inner for value in get_args(part) or (part,) if isinstance(value, str)]
    if literals:
        return "|".join(literals)
    if get_origin(hint) in (dict, list, tuple, Sequence) or any(get_args(part) for part in inner):
        return "VALUE"
    return next((name for kind, name in VALUES.items() if kind in inner), "CLASS")
