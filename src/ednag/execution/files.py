"""The files of a call where driver and workers share no file system: packed, sent, and unpacked."""

from __future__ import annotations

import io
import secrets
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ednag.core.ownership import LOCK
from ednag.core.storage import PART, atomic_write


def pack(root: Path, names: Iterable[Path]) -> bytes:
    """Put files and folders below a root into an archive; those that aren't there are left out."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in sorted({path for name in names for path in _files(root / name)}):
            archive.add(path, str(path.relative_to(root)), recursive=False)
    return stream.getvalue()


def unpack(content: bytes, root: Path) -> None:
    """Write the files of an archive below a root, each atomically.

    Raises:
        ValueError: if one of them would lie elsewhere.
    """
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive.getmembers():
            target = root / member.name
            if not member.isfile() or not target.resolve().is_relative_to(root.resolve()):
                raise ValueError(f"a worker sent {member.name}, which is no file below {root}")
            source = archive.extractfile(member)
            text = b"" if source is None else source.read()
            atomic_write(target, lambda stream, text=text: stream.write(text))  # type: ignore[misc]


def _files(path: Path) -> Iterator[Path]:
    """The finished files of a folder, or a file itself."""
    found = path.rglob("*") if path.is_dir() else [path]
    return (one for one in found if one.is_file() and not one.name.endswith(PART) and one.name != LOCK)


@contextmanager
def token(root: Path) -> Iterator[tuple[str, str]]:
    """Leave a file in a folder for a while by which workers can tell that they see the same folder; path and content."""
    root.mkdir(parents=True, exist_ok=True)
    path, content = root.absolute() / f".seen.{secrets.token_hex(4)}{PART}", secrets.token_hex(16)
    path.write_text(content, encoding="utf-8")
    try:
        yield str(path), content
    finally:
        path.unlink(missing_ok=True)


def sees(path: str, content: str) -> bool:
    """Whether this process sees that file."""
    try:
        return Path(path).read_text(encoding="utf-8") == content
    except OSError:
        return False
