"""The verbs of the command line, and how one is chosen. Nothing here imports torch; a verb imports what it needs."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, get_args, get_origin, get_type_hints

from ednag.core.names import did_you_mean


@dataclass(frozen=True)
class Verb:
    """A word of the command line.

    Attributes:
        line: what it does, in one line.
        target: ``module:function``, imported when the verb is used. The function takes the words before its own options
            (``ednag generate``) and the rest of the line, and returns an exit status or ``None``.
    """

    line: str
    target: str

    def run(self, prog: str, words: list[str]) -> int:
        """Run the verb; returns the exit status."""
        module, name = self.target.split(":")
        return getattr(import_module(module), name)(prog, words) or 0


VERBS: dict[str, Verb] = {
    "demo": Verb(
        "Generate networks for images of digits and train the best three (about a minute).", "ednag.cli.demo:run"
    ),
    "generate": Verb("Generate architectures from noise.", "ednag.cli.trainer:run"),
    "retrain": Verb("Train the best architectures of a report and test them.", "ednag.cli.trainer:run"),
    "classify": Verb("Classify photographs with a trained network.", "ednag.cli.classify:run"),
    "export": Verb("Write a trained network as ONNX, torch.export or safetensors.", "ednag.cli.export:run"),
    "report": Verb("Make the report.html of a run again.", "ednag.cli.report:run"),
    "compare": Verb("Compare samplers with the same seeds and the same budget.", "ednag.cli.trainer:run"),
    "collect": Verb("Collect meta data: brief trainings on many small tasks.", "ednag.cli.trainer:run"),
    "fit": Verb("Train a predictor, or any LightningModule.", "ednag.cli.trainer:run"),
    "validate": Verb("Measure a model on validation data.", "ednag.cli.trainer:run"),
    "test": Verb("Measure a model on test data.", "ednag.cli.trainer:run"),
    "predict": Verb("Predict with a model.", "ednag.cli.trainer:run"),
    "data": Verb("List data sets and benchmark tables; fetch, import and check them.", "ednag.cli.data:run"),
    "configs": Verb("List the shipped configurations, or show one.", "ednag.cli.configs:run"),
}
"""Every verb. Adding one is one line."""


def choose(words: Sequence[str], known: Mapping[str, object], help_text: str) -> str | None:
    """Return the verb that a line begins with, or ``None`` after printing help if it begins with none.

    Raises:
        ValueError: if there is no such verb, naming those that are near.
    """
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(help_text)
        return None
    if words[0] not in known:
        what = "option" if words[0].startswith("-") else "verb"
        raise ValueError(f"unknown {what} {words[0]!r}{did_you_mean(words[0], known)}; known: {', '.join(known)}")
    return words[0]


def listing(usage: str, description: str, lines: Mapping[str, str], end: str = "") -> str:
    """Write the help of a program that has verbs: a line for each."""
    width = max(map(len, lines))
    listed = "\n".join(f"  {name:<{width}}  {line}" for name, line in lines.items())
    return f"usage: {usage}\n\n{description}\n\n{listed}\n" + (f"\n{end}\n" if end else "")


def choose_function(
    prog: str, description: str, functions: Mapping[str, Callable[..., Any]], words: list[str]
) -> Callable[[], Any]:
    """Choose one of several functions by the first word, and read its arguments from the others.

    Returns:
        the call to make; one that does nothing after help was printed.
    """
    lines = {name: (inspect.getdoc(function) or "").split("\n")[0] for name, function in functions.items()}
    end = f"`{prog} VERB --help` shows the arguments of a verb."
    verb = choose(words, functions, listing(f"{prog} VERB ...", description, lines, end))
    return (lambda: None) if verb is None else read_call(f"{prog} {verb}", functions[verb], words[1:])


def read_call(prog: str, function: Callable[..., Any], words: list[str]) -> Callable[[], Any]:
    """Read the arguments of a function from the command line, by its signature and docstring.

    Parameters are positional, optional if they have a default, and one or more words if they are lists; keyword-only ones become options ``--name``, and those
    whose default is ``False`` flags.

    Returns:
        the call to make.
    """
    from docstring_parser import parse
    from jsonargparse import ArgumentParser

    document = parse(inspect.getdoc(function) or "")
    told = {entry.arg_name: entry.description for entry in document.params}
    text = "\n\n".join(filter(None, [document.short_description, document.long_description]))
    parser = ArgumentParser(prog=prog, description=text.replace("``", ""), exit_on_error=False, allow_abbrev=False)
    hints = get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        help_text, default = (told.get(name) or "").replace("``", ""), parameter.default
        if parameter.kind is not parameter.KEYWORD_ONLY:
            several = get_origin(hints[name]) is list
            kind = get_args(hints[name])[0] if several else hints[name]
            optional = {} if default is parameter.empty else {"nargs": "?", "default": default}
            parser.add_argument(name, type=kind, help=help_text, **({"nargs": "+"} if several else optional))
        elif default is False:
            parser.add_argument(f"--{name}", action="store_true", help=help_text)
        else:
            parser.add_argument(f"--{name}", type=hints[name], default=default, help=help_text)
    arguments = parser.parse_args(words).as_dict()
    return lambda: function(**arguments)
