"""A folder that belongs to one process: an operating system's lock, which a killed process gives back."""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ednag.core.storage import PART

LOCK = ".lock"
"""File in the folder that is locked, and says who locked it."""

log = logging.getLogger(__name__)

fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None


class Ownership:
    """The right to write into a folder, from its making until :meth:`release` or the end of the process.

    The lock is POSIX's, by process and not by open file: workers that outlive a killed process don't hold it, and it
    works over NFS. Where a file system has no locks, that is said, and the folder is used without one.

    Args:
        folder: exists, and can be written.

    Raises:
        ValueError: if another process has it; the message names that.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stream = (folder / LOCK).open("a+", encoding="utf-8")
        try:
            self._lock()
        except BaseException:
            self._stream.close()
            raise
        self._stream.seek(0)
        self._stream.truncate()
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._stream.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": since}))
        self._stream.flush()

    def release(self) -> None:
        """Give the folder back."""
        self._stream.close()

    def _lock(self) -> None:
        try:
            if fcntl is None:
                raise OSError(errno.ENOSYS, "this operating system has no such locks")
            fcntl.lockf(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ValueError(
                    f"{self.folder} is in use by {self._owner()}; wait until that has ended, or end it, or choose "
                    "another --run_dir"
                ) from None
            log.warning("%s can't be locked (%s); make sure that no other process uses it", self.folder, error.strerror)

    def _owner(self) -> str:
        """Who has the folder, in words."""
        try:
            self._stream.seek(0)
            owner = json.loads(self._stream.read(1000))
            return f"process {owner['process']} on {owner['host']} since {owner['since']}"
        except (ValueError, KeyError, TypeError, OSError):  # it has not written that yet
            return "another process"


def clean(folder: Path) -> None:
    """Remove the unfinished files that killed processes left in a folder; only its owner may."""
    for path in folder.rglob(f".*{PART}"):
        path.unlink(missing_ok=True)
