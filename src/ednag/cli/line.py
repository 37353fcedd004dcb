"""What was typed, put in order of precedence: defaults < configurations in their order < preset < everything else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ednag.cli.run_directory import CONFIG, resumed_config
from ednag.core.reading import read_yaml, reading
from ednag.core.shipped import find_config

OPTIONS = ("--config", "--preset", "--resume")
"""Options whose place on the line doesn't matter."""

FLAGS = ("knowledge", "dry_run", "baselines", "retrain", "open")
"""Options that need no value; ``true`` or ``false`` may follow."""

EXECUTORS = ("in_process", "processes", "ray")
"""Names of the executors' classes, as they may be typed."""


def arrange(words: Sequence[str], verb: str) -> list[str]:
    """Put the options of a verb in order of precedence, so that later ones win.

    Whatever their places on the line, the configuration of a resumed run comes first, then ``--config`` (``-c``) in
    their order, then ``--preset``, then what else was typed. Configurations are found by path or by shipped name.

    Args:
        words: what was typed after the verb.
        verb: the verb.

    Raises:
        ValueError: if one of these options lacks its value, a configuration is damaged, or a directory holds no run to
            resume.
        FileNotFoundError: if there is no such configuration.
    """
    taken: dict[str, list[str]] = {name: [] for name in OPTIONS}
    rest: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0).replace("--report.images", "--report_images")  # `report` itself is a path
        name, value = _split(word)
        if word.removeprefix("--") in FLAGS:
            rest.append(f"{word}={words.pop(0) if words and words[0] in ('true', 'false') else 'true'}")
        elif name == "--executor":
            rest.append(f"--executor={_executor(value if value is not None else words.pop(0) if words else '')}")
        elif name not in OPTIONS:
            rest.append(word)
        else:
            if value is None and (not words or words[0].startswith("-")):
                raise ValueError(f"{word} needs a value")
            taken[name].append(words.pop(0) if value is None else value)
    resumed = [word for folder in taken["--resume"] for word in resumed_config(Path(folder).expanduser(), verb)]
    configs = [config if _inline(config) else str(find_config(config)) for config in taken["--config"]]
    for config in [*configs, *(word for word in resumed if word.endswith(CONFIG))]:
        if not _inline(config):
            _check_config(Path(config))
    names = {"--config": configs, "--preset": taken["--preset"], "--resume": taken["--resume"]}
    return [*resumed, *(f"{name}={value}" for name, values in names.items() for value in values), *rest]


def _check_config(path: Path) -> None:
    """Refuse a configuration that is damaged, or holds no options by name.

    Raises:
        ValueError: then.
    """
    kind, remedy = "a configuration", "`ednag configs` lists those that ship"
    content = read_yaml(path, kind, remedy)
    with reading(path, kind, remedy):
        if not isinstance(content, dict):
            raise ValueError("it holds no options, `name: value`")
        if odd := [name for name in content if not isinstance(name, str)]:
            raise ValueError(f"{odd[0]!r} is no name of an option")
        if content.get("resume") is not None:
            raise ValueError("resume belongs on the command line: --resume RUN")


def _split(word: str) -> tuple[str, str | None]:
    """Split ``--name=value``, ``-cVALUE`` and ``-c=VALUE`` into the long name and the value, if there is one."""
    if word.startswith("-c"):
        return "--config", word[2:].removeprefix("=") or None
    name, equals, value = word.partition("=")
    return name, value if equals else None


def _executor(name: str) -> str:
    """Spell an executor's class: ``in_process``, ``processes`` and ``ray`` will do."""
    return "".join(part.capitalize() for part in name.split("_")) if name in EXECUTORS else name


def _inline(config: str) -> bool:
    """Tell a configuration that is written out from the name of one."""
    return config.lstrip().startswith("{") or "\n" in config
