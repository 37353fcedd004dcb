"""A folder that belongs to one process: an operating system's lock, which a killed process gives back."""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
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
        elsewhere: what to do in place of waiting.

    Raises:
        ValueError: if another process has it; the message names that.
        OSError: if it can't be written.
    """

    def __init__(self, folder: Path, elsewhere: str = "choose another --run_dir") -> None:
        self.folder, self.elsewhere = folder, elsewhere
        while True:
            self._stream = (folder / LOCK).open("a+", encoding="utf-8")
            try:
                self._lock()
                if self._still_there():
                    break
            except BaseException:
                self._stream.close()
                raise
            self._stream.close()
        self._stream.seek(0)
        self._stream.truncate()
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._stream.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": since}))
        self._stream.flush()

    def release(self) -> None:
        """Give the folder back."""
        self._stream.close()

    def remove(self) -> None:
        """Give the folder back, and leave no lock in it."""
        (self.folder / LOCK).unlink(missing_ok=True)  # before it is given back: what comes now makes a new one
        self.release()

    def _still_there(self) -> bool:
        """Whether the file that was locked is the folder's: another process may have removed it before it was locked."""
        try:
            return os.path.samestat(os.fstat(self._stream.fileno()), (self.folder / LOCK).stat())
        except FileNotFoundError:
            return False

    def _lock(self) -> None:
        try:
            if fcntl is None:
                raise OSError(errno.ENOSYS, "this operating system has no such locks")
            fcntl.lockf(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ValueError(
                    f"{self.folder} is in use by {self._owner()}; wait until that has ended, or end it, or "
                    f"{self.elsewhere}"
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
    """Remove the unfinished files that killed processes left in a folder; only its owner may.

    Sub-folders that have a lock of their own are left to their owners.
    """
    for path in list(folder.rglob(f".*{PART}")):
        between = [parent for parent in path.parents if folder in parent.parents]
        if any((parent / LOCK).exists() for parent in between):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def owned(folder: Path, elsewhere: str) -> Iterator[None]:
    """Own a folder, made if it is missing, within; see :class:`Ownership`. Nothing of that is left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = Ownership(folder, elsewhere)
    try:
        yield
    finally:
        owner.remove()
