"""What the parser of the command line refuses, in one sentence, with the names that may have been meant."""

from __future__ import annotations

import argparse
import errno
import inspect
import re
import sysconfig
import traceback
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path

from ednag.core.names import did_you_mean

MISTAKES = (argparse.ArgumentError, ValueError, OSError, RuntimeError, ImportError, MemoryError)
"""What a user can put right; anything else is a fault of this program and keeps its traceback."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk that is full, or of a file that may grow no more."""

NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of a place that this user can't use."""

CLASS_WANTED = r"Expected a dot import path string: (\S*)"
"""What the parser says of a word that names no class."""


_CLASS_EXPECTED = r"expected a class of \1 by its name, or class_path and init_args"


def say_mistake(error: BaseException) -> str:
    """Say in one sentence what was a user's mistake, or the machine's state."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for this; take smaller images, batches or networks"
    if not isinstance(error, OSError) or error.errno is None:
        return shorten(str(error))
    where = error.filename2 or error.filename
    if error.errno in NO_ROOM:
        place = "for more" if where is None else f"for {where}"
        return f"the disk has no room {place} ({error.strerror}); free some"
    if error.errno in NO_RIGHT:
        place = "a file" if where is None else where
        return f"can't use {place} ({error.strerror}); choose another place, or get the right to use it"
    return shorten(str(error) if where is None else f"{where}: {error.strerror}")


def shorten(message: str) -> str:
    """Shorten jsonargparse's error about a value that fits none of several types to the reasons why."""
    message = _innermost(message)
    if "Union subtypes" in message:  # which tells the value at its end
        message = re.sub(r"(?<=[\w'>])\. Got value: [^\n]+", "", message)
    message = re.sub(r"Expected an? <class '(\w+)'>\. Got value: (\S+)", r"expected \1, got \2", message)
    message = re.sub(
        r"Not a valid subclass of (\w+).*?\(implicit class_path\)\.?", _CLASS_EXPECTED, message, flags=re.S
    )
    message = re.sub(
        CLASS_WANTED, r"no class '\1' is known; name one of this project's, or package.module.Class", message
    )
    report = re.search(
        r"Does not validate against any.*?Errors:\n(.*)\n\s*Given value type:.*?Given value: (.*)", message, re.S
    )
    if not report:
        return re.sub(r'^Parser key "(.*?)":\s*', r"\1: ", message)
    reasons = [" ".join(reason.split()) for reason in re.split(r"(?:^|\n)\s*- ", report[1]) if reason.strip()]
    expected = [reason for reason in reasons if re.match("Expected an? ", reason)]
    told = [reason for reason in reasons if reason not in expected]
    if not told:
        kinds = " or ".join(re.sub(r"Expected an? (?:<class '(.*)'>)?", r"\1", reason) for reason in expected)
        kinds = re.sub(r"typing\.Literal\[(.*?)\]", r"\1", kinds)
        told = [f"expected {kinds.replace('NoneType', 'null')}, got {report[2].strip()[:100]!r}"]
    key = re.search(r'Parser key "(.*?)"', message)
    return f"{f'{key[1]}: ' if key else ''}{'; '.join(told)}"


def _innermost(message: str) -> str:
    """Take the error about an option of a class out of that about the class: ``recipe.epochs`` is what was wrong."""
    pattern = r'Parser key "([\w.]+)":.*?Problem with given class_path \'[\w.]+\':\s+Parser key "([\w.]+)":(.*?)(?=\n    - |\Z)'
    found = re.match(pattern, message, re.S)
    return f'Parser key "{found[1]}.{found[2]}":{found[3]}' if found else message


def explain(message: str, parser: argparse.ArgumentParser, kinds: Mapping[str, Iterable[str]]) -> str:
    """Shorten a parser's error, and add the names that are near a misspelt one.

    Args:
        message: the parser's.
        parser: whose options are known.
        kinds: for each option that takes a class, the short names that it offers.
    """
    text, message = shorten(message), _innermost(message)
    if wanted := re.search(CLASS_WANTED, message):
        key = re.search(r'Parser key "(.*?)"|--(\S+)\.help', message)
        option = (key[1] or key[2] or "") if key else ""
        known = kinds.get(option) or [name for names in kinds.values() for name in names]
        where = f"; --{option}.help lists them" if option in kinds else ""
        replaced = f"no class {wanted[1]!r} is known{did_you_mean(wanted[1], known)}; name one of this project's"
        return re.sub(r"no class '\S+' is known; name one of this project's", lambda _: replaced, text) + where
    if option_name := re.search(r"unrecognized arguments: --([\w.]+)", message):
        known = [flag for flag in parser._option_string_actions if flag.startswith("--")]
        return text + did_you_mean(f"--{option_name[1]}", known)
    if odd := re.search(r"does not accept option '([\w.]+)'", message):
        known = [flag.removeprefix("--") for flag in parser._option_string_actions if flag.startswith("--")]
        return f"{parser.prog} has no option {odd[1]!r}{did_you_mean(odd[1], known)}; its --help lists them"
    if refused := re.search(r"class_path '([\w.]+)':\s+Option '(\w+)' is not accepted", message):
        return _refused(text, refused[1], refused[2])
    if lacking := re.search(
        r'key "(\S+)".*class_path \'\S*?(\w+)\':\s+the following arguments are required: ([\w, ]+)', message, re.S
    ):
        return f"{lacking[1]}: {lacking[2]} needs {lacking[3].strip()}, in init_args"
    if required := re.search(r"arguments are required: (.*)", message):
        return f"{parser.prog} needs " + ", ".join(f"--{name.split('.', 1)[-1]}" for name in required[1].split(", "))
    return text


def _refused(text: str, class_path: str, option: str) -> str:
    """Say which options a class has, in place of one that it hasn't."""
    known = _parameters(class_path)
    kind = class_path.rsplit(".", 1)[-1]
    told = f"Option '{option}' is not accepted by {kind}{did_you_mean(option, known)}; it has {', '.join(known)}"
    return re.sub(r"(Problem with given class_path '\S+': )?Option '\w+' is not accepted", lambda _: told, text)


def _parameters(class_path: str) -> list[str]:
    """Name the constructor arguments of a class."""
    module, _, name = class_path.rpartition(".")
    return list(inspect.signature(getattr(import_module(module), name)).parameters)


def in_own_code(error: BaseException) -> str | None:
    """Say where a user's own code has raised an error; ``None`` if the innermost code of anybody's is not theirs.

    Code of the user is what is neither of this package nor installed.
    """
    package = str(Path(__file__).parents[1])
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(package):
            return None
        if not frame.filename.startswith("<") and not _installed(frame.filename):
            return f"{frame.filename}, line {frame.lineno}: {type(error).__name__}: {error}"
    return None


def _installed(name: str) -> bool:
    """Whether a file belongs to Python or to an installed package, Debian's included."""
    standard = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib"))
    return "site-packages" in name or "dist-packages" in name or name.startswith(standard)
