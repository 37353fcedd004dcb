"""``ednag configs``: the configurations that ship, by name."""

from __future__ import annotations

import re
from collections.abc import Callable

from ednag.cli.output import say, text_table
from ednag.cli.verbs import choose_function
from ednag.core.shipped import CONFIGS, config_names, find_config


def configs_list(part: str = "") -> None:
    """List the shipped configurations with one line each.

    Args:
        part: only those whose name contains this.

    Raises:
        ValueError: if there is none.
    """
    names = [name for name in config_names() if part in name]
    if not names:
        raise ValueError(f"no shipped configuration has {part!r} in its name; `ednag configs` lists them all")
    say(text_table(["name", "what it is"], [[name, summary(name)] for name in names]))


def configs_show(name: str) -> None:
    """Print a configuration.

    Args:
        name: as `ednag configs` lists it: generate/demo.
    """
    say(find_config(name).read_text(encoding="utf-8").rstrip("\n"))


def summary(name: str) -> str:
    """Return the first sentence of the comment that a shipped configuration begins with."""
    lines = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comment: list[str] = []
    for line in lines:
        if not line.startswith("# "):
            break
        comment.append(line.removeprefix("# ").strip())
    return re.split(r"(?<!et al)\. ", " ".join(comment))[0].removesuffix(".")


def run(prog: str, words: list[str]) -> None:
    """Run ``ednag configs [PART]``, short for ``ednag configs list [PART]``, or ``ednag configs show NAME``."""
    functions: dict[str, Callable[..., None]] = {"list": configs_list, "show": configs_show}
    description = "The configurations that ship: `--config NAME` uses one, from any directory."
    short = not words or (len(words) == 1 and words[0] not in functions and not words[0].startswith("-"))
    choose_function(prog, description, functions, ["list", *words] if short else words)()
