"""The directory of a run: choosing it, claiming it, and what is written there first."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from ednag.cli.output import first_process
from ednag.core.ownership import LOCK, Ownership, clean
from ednag.core.reading import LARGEST_YAML, read_bytes, reading
from ednag.core.storage import atomic_write

RUN_DIR = "EDNAG_RUN_DIR"
"""Environment variable that tells the other processes of a run its directory."""

CONFIG = "config.yaml"
"""What a run was started with, and is resumed with."""


def shared_run_dir() -> Path | None:
    """Directory that the first process of a run chose; ``None`` in the first process itself.

    Raises:
        ValueError: if this is another process, and wasn't told.
    """
    if first_process():
        return None
    if RUN_DIR not in os.environ:
        raise ValueError("processes that are started by torchrun or SLURM need a common directory: --run_dir DIR")
    return Path(os.environ[RUN_DIR])


def new_run_dir(verb: str) -> Path:
    """Name a directory that no other run has: ``runs/VERB-TIME-xxxxxxxx``."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    try:
        Path("runs").mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{verb}-{stamp}-", dir="runs"))
    except OSError as error:
        raise ValueError(
            f"can't make a directory in {Path('runs').absolute()} ({error.strerror}); give one: --run_dir DIR"
        ) from None
    folder.chmod(0o755)  # mkdtemp's own is private
    return folder


def claim_directory(folder: Path, resumed: bool = False) -> None:
    """Take a directory for this process alone, from the first moment.

    Args:
        folder: of the run; made where it is new.
        resumed: whether it must hold a run, or must not.

    Raises:
        ValueError: if it can't be written, is in use, or holds another run.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        owned = Ownership(folder)
    except OSError as error:
        raise ValueError(f"can't write into {folder} ({error.strerror}); choose another --run_dir") from None
    clean(folder)
    # A config and logs alone are of a run that failed before it began.
    if not resumed and {path.name for path in folder.iterdir()} - {CONFIG, LOCK, "logs", "wandb"}:
        owned.release()
        raise ValueError(
            f"{folder} already holds a run; continue it with --resume {folder}, or choose another --run_dir"
        )
    _owned.append(owned)


def release_directories() -> None:
    """Give back what this process has claimed."""
    while _owned:
        _owned.pop().release()


_owned: list[Ownership] = []


def how_to_continue(verb: str) -> str:
    """Say with which command a run that was stopped goes on; nothing where none has begun."""
    begun = [owned.folder for owned in _owned if (owned.folder / CONFIG).exists()]
    return f"; continue with: ednag {verb} --resume {shlex.quote(str(begun[-1]))}" if begun else ""


VERB_LINE = "# ednag "
"""Beginning of the line of a configuration that tells the verb of its run."""


def save_config(folder: Path, text: str, verb: str = "") -> None:
    """Write a run's configuration, with the verb in its first line, and without the keys that belong to one run only."""
    first = f"{VERB_LINE}{verb}\n" if verb else ""
    atomic_write(folder / CONFIG, lambda stream: stream.write(f"{first}{portable(text)}".encode()))


def extend_config(folder: Path, name: str, more: int | None) -> None:
    """Note in a run's configuration that it goes on for longer, so that it is resumed so from now on.

    Args:
        folder: of the run.
        name: ``evaluations``, or ``max_epochs`` of the trainer.
        more: how many; noted where it was less.
    """
    text = (folder / CONFIG).read_text(encoding="utf-8")
    before = re.search(rf"^(?:  )?{name}: (\d+)$", text, re.M)
    if before and more is not None and more > int(before[1]):
        save_config(folder, f"{text[: before.start(1)]}{more}{text[before.end(1) :]}")


def resumed_config(folder: Path, verb: str) -> list[str]:
    """Arguments with which a run was started, for the command line that resumes it.

    Raises:
        ValueError: if there is no such run.
    """
    config, report = folder / CONFIG, folder / "report.json"
    if not config.exists():
        raise ValueError(f"{str(folder)!r} holds no run to resume: there is no {config}")
    with reading(config, "the configuration of a run", "start another run"):
        first = read_bytes(config, LARGEST_YAML).decode(errors="replace").split("\n", 1)[0]
    own = first.removeprefix(VERB_LINE).strip()
    if first.startswith(VERB_LINE) and own != verb:
        raise ValueError(f"{folder} holds a run of `ednag {own}`; continue it with: ednag {own} --resume {folder}")
    kept = ["--report", str(report)] if verb == "retrain" and report.exists() else []
    return ["--config", str(config), *kept]


def rooted(value: Any) -> Any:
    """Make the paths in a configuration absolute, however deeply nested, so that it means the same anywhere.

    Args:
        value: a configuration, or a part of it. Texts are paths where they hold a slash and name something that exists.
    """
    if isinstance(value, Path):
        return value.expanduser().absolute()
    if isinstance(value, str):
        path = Path(value).expanduser() if value.startswith("~/") else Path(value)
        return str(path.absolute()) if os.sep in value and _exists(path) else value
    if isinstance(value, list | tuple):
        return type(value)(rooted(item) for item in value)
    if isinstance(value, dict | Namespace):
        for name in list(value.keys() if isinstance(value, dict) else vars(value)):
            if name not in ("class_path", "run_dir", "resume"):
                value[name] = rooted(value[name])
    return value


def refuse_infinite(value: Any, name: str = "") -> None:
    """Refuse numbers in a configuration, however deeply nested, that nothing can mean.

    They are NaN, infinity, and integers of more than 63 bits. Some would only be noticed after the work.

    Args:
        value: a configuration, or a part of it.
        name: of the part.

    Raises:
        ValueError: naming the option.
    """
    if isinstance(value, dict | Namespace):
        for key, item in value.items() if isinstance(value, dict) else vars(value).items():
            refuse_infinite(item, f"{name}.{key}".removeprefix(".").replace("init_args.", ""))
    elif isinstance(value, list | tuple):
        for item in value:
            refuse_infinite(item, name)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value}")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{name} must be a number of at most 63 bits, got {value}")


def _exists(path: Path) -> bool:
    """Whether there is such a path; a text that can't be one is none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


BEFORE_A_START = {CONFIG, LOCK, "hparams.yaml"}
"""What a run writes before it begins its work."""


BEFORE_A_RETRAINING = {"report.json", "job.json"}
"""What a retraining writes besides."""


def abandon_directory(folder: Path, verb: str) -> None:
    """Remove the directory of a run that failed before it began; keep one that holds any work."""
    early = BEFORE_A_START | (BEFORE_A_RETRAINING if verb == "retrain" else set())
    if all(path.name in early for path in folder.rglob("*") if not path.is_dir()):
        shutil.rmtree(folder, ignore_errors=True)


def portable(text: str) -> str:
    """Strip a dumped config of the keys that belong to one run only."""
    return "".join(
        line for line in text.splitlines(True) if not line.startswith(("run_dir:", "resume:", "dry_run:", "open:"))
    )


def place_logger(logger: Any, folder: Path) -> None:
    """Let a logger of the config write into the run's directory, unless the user chose a place."""
    if not logger or logger is True or "class_path" not in logger:
        return
    options = logger.init_args
    name = logger.class_path.rsplit(".", 1)[-1]
    if options.get("save_dir") in (None, ".", "lightning_logs"):
        options.save_dir = str(folder)
        if name in ("CSVLogger", "TensorBoardLogger"):
            options.name = "logs"
    if name == "WandbLogger":  # its networks' trainings join this run's group
        logger.dict_kwargs = {"group": folder.name, **(logger.get("dict_kwargs") or {})}
