"""What the parser of the command line refuses, in one sentence."""

from __future__ import annotations

import re

CLASS_WANTED = r"Expected a dot import path string: (\S+)"
"""What the parser says of a word that names no class."""


def essence(message: str) -> str:
    """Reduce what the parser reports of a value that none of several types accepts to the reasons why."""
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
        told = [f"expected {kinds.replace('NoneType', 'null')}, got {report[2].strip()[:100]!r}"]
    key = re.search(r'Parser key "(.*?)"', message)
    return f"{f'{key[1]}: ' if key else ''}{'; '.join(told)}"
