"""Fetching files over the net, when the user asks for it: resumed, checked, unpacked. Nothing else here downloads."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pooch
import requests
from requests.exceptions import ChunkedEncodingError
from tqdm.auto import tqdm

from ednag.benchmarks.addresses import ADDRESSES, RemoteFile
from ednag.benchmarks.locate import DOWNLOADS, entry
from ednag.core.inputs import sha256
from ednag.core.ownership import owned

log = logging.getLogger(__name__)

CHUNK = 1 << 16
"""Bytes that are written at once; what a broken connection delivered of the next ones is lost."""


BROKEN = (requests.ConnectionError, requests.Timeout, ChunkedEncodingError)
"""What a broken connection raises, before the content or amid it."""


class ResumingDownloader:
    """What pooch calls to fetch a file: goes on where an earlier call was cut off.

    The bytes so far are kept as ``.NAME.part`` beside the file.

    Args:
        name: of the file.
        timeout: seconds without any byte after which the server counts as gone.
        attempts: how often to go on with one address after a broken connection.
    """

    def __init__(self, name: str, timeout: float = 60, attempts: int = 3) -> None:
        self.name, self.timeout, self.attempts = name, timeout, attempts

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Fetch ``url`` into ``output_file``, see pooch's documentation of downloaders.

        Raises:
            requests.RequestException: if the file is absent, or the connection breaks ``attempts`` times.
            OSError: if the disk is full.
        """
        part = Path(output_file).with_name(f".{self.name}.part")
        for attempt in range(1, self.attempts + 1):
            try:
                self._fetch(url, part)
                os.replace(part, output_file)
                return
            except BROKEN as error:
                if attempt == self.attempts:
                    raise
                log.info("%s: %s; going on", url, error)

    def _fetch(self, url: str, part: Path) -> None:
        """Append what is missing of a file."""
        have = part.stat().st_size if part.exists() else 0
        headers = (
            {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
        )
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                return  # nothing is missing, or the digest will tell
            response.raise_for_status()
            have = have if response.status_code == requests.codes.partial_content else 0
            missing = int(response.headers.get("Content-Length", 0))
            self._check_room(part, missing)
            with part.open("ab" if have else "wb") as stream, self._bar(have, missing) as bar:
                for chunk in response.iter_content(CHUNK):
                    stream.write(chunk)
                    bar.update(len(chunk))

    def _check_room(self, part: Path, missing: int) -> None:
        """Refuse before a byte is written what the disk has no room for."""
        free = shutil.disk_usage(part.parent).free
        if missing > free:
            raise OSError(
                errno.ENOSPC, f"{self.name} needs {missing:,} more bytes, {free:,} are free", str(part.parent)
            )

    def _bar(self, have: int, missing: int) -> tqdm[Any]:
        total = have + missing if missing else None
        return tqdm(total=total, initial=have, desc=self.name, unit="B", unit_scale=True, disable=None)


def download(name: str, folder: Path | None = None, base: str | None = None, timeout: float = 60) -> list[Path]:
    """Fetch the files of an entry of the catalogue; those that are here already are only checked.

    Args:
        name: of the entry, as ``ednag data list`` has it.
        folder: where to; ``data/downloads/NAME`` if omitted.
        base: address of a folder of a mirror of yours that holds the files, in place of the known addresses.
        timeout: seconds without any byte after which a server counts as gone.

    Returns:
        the paths of the files.

    Raises:
        ValueError: if the name is unknown, nothing of that name can be fetched directly (saying where to click), or a
            file has another digest than it should.
        OSError: if no address answers, or the disk is full.
    """
    source = entry(name)
    if name not in ADDRESSES:
        raise ValueError(f"{name} has no direct address: get it by hand from {source.home} ({source.source})")
    folder = DOWNLOADS / name if folder is None else folder.expanduser()
    with owned(folder, "choose another --folder"):
        return [fetch(file, folder, base, timeout) for file in ADDRESSES[name]]


def fetch(file: RemoteFile, folder: Path, base: str | None = None, timeout: float = 60) -> Path:
    """Fetch one file, check it, and unpack it where that is to be; see :func:`download`."""
    pooch.get_logger().setLevel(logging.WARNING)
    reasons = []
    for url in (f"{base.rstrip('/')}/{file.name}",) if base else file.urls:
        with _told(file, folder):
            try:
                downloader = ResumingDownloader(file.name, timeout)
                pooch.retrieve(url, file.digest, file.name, folder, downloader=downloader)
                break
            except requests.RequestException as error:
                reasons.append(f"{url}: {_reason(error)}")
    else:
        raise OSError(
            f"can't fetch {file.name}: {'; '.join(reasons)}. What has arrived is kept, and the same command goes on; "
            f"--from names a mirror, or put the file into {folder} by hand"
        )
    path = folder / file.name
    if file.digest is None:
        log.info("%s: sha256 %s; its source publishes no digest to compare with", path, sha256(path))
    if file.unpack:
        with _told(file, folder):
            unpack(path, folder)
    return path


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive beside itself: each of its top folders whole or not at all; those that are here stay.

    Raises:
        tarfile.TarError: if it is damaged, or a member would leave the folder.
    """
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as place:
        with tarfile.open(archive) as tar:
            names = {Path(member.name).parts[0] for member in tar if Path(member.name).parts}
            if names <= {path.name for path in folder.iterdir()}:
                return
            tar.extractall(place, filter="data")
        for top in sorted(Path(place).iterdir()):
            if not (folder / top.name).exists():
                top.rename(folder / top.name)


@contextmanager
def _told(file: RemoteFile, folder: Path) -> Iterator[None]:
    """Say in one sentence what went wrong with the disk, the digest or the archive."""
    try:
        yield
    except requests.RequestException:
        raise
    except ValueError as error:
        if "hash" not in str(error):
            raise
        raise ValueError(
            f"{file.name} is not the file it should be: its digest is not {file.digest}; nothing was kept. Try again, or "
            "--from another address; if it is right there, tell the project"
        ) from None
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(
            f"{folder / file.name} can't be unpacked ({' '.join(str(error).split())[:80]}); delete it and try again"
        ) from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            f"no room for {file.name} on the disk of {folder} ({error.strerror}); what has arrived is kept: free some, "
            "and the same command goes on"
        ) from None


def _reason(error: Exception) -> str:
    """What went wrong with a request, shortly."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return "the connection broke" if isinstance(error, BROKEN) else type(error).__name__
