"""The directory of a run: choosing it, claiming it, and what is written there first."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ednag.cli.output import first_process

RUN_DIR = "EDNAG_RUN_DIR"
"""Environment variable that tells the other processes of a run its directory."""


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
    Path("runs").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{verb}-{stamp}-", dir="runs"))
    folder.chmod(0o755)  # mkdtemp's own is private
    return folder


def claim_directory(folder: Path) -> None:
    """Make sure that a directory can be written and holds no other run.

    Raises:
        ValueError: otherwise.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"can't write into {folder} ({error.strerror}); choose another --run_dir") from None
    # A config and logs alone are of a run that failed before it began.
    if {path.name for path in folder.iterdir()} - {"config.yaml", "logs", "wandb"}:
        raise ValueError(
            f"{folder} already holds a run; continue it with --resume {folder}, or choose another --run_dir"
        )


def last_checkpoint(folder: Path) -> str | None:
    """Newest ``last.ckpt`` below a run's directory: where a killed fit goes on; ``None`` where it had saved none."""
    found = sorted(folder.rglob("last*.ckpt"), key=lambda path: path.stat().st_mtime)
    return str(found[-1]) if found else None


def portable(text: str) -> str:
    """Strip a dumped config of the keys that belong to one run only."""
    return "".join(line for line in text.splitlines(True) if not line.startswith(("run_dir:", "resume:", "dry_run:")))


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
