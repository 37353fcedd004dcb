"""The one way in for files: bounded before they are held, parsed without running anything, and named when damaged."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

import numpy as np
import yaml
from numpy.lib import format as npy
from numpy.typing import NDArray

T = TypeVar("T")

LARGEST_TEXT = 64 * 2**20
"""Bytes that a JSON file may have."""

LARGEST_YAML = 2**20
"""Bytes that a YAML file may have."""

MOST_NODES = 100_000
"""Values that a YAML file may hold once its aliases are written out."""

LARGEST_ARRAYS = 16 * 2**30
"""Bytes that the arrays of one archive may take."""

UNSUSPICIOUS = 2**28
"""Bytes of arrays up to which no ratio of compression is doubted."""

HIGHEST_RATIO = 200
"""Bytes that one byte of a larger archive may stand for."""


@contextmanager
def reading(path: Path | str, kind: str, remedy: str, passes: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Say in one sentence what is wrong with a file, whatever is raised while it is read and understood.

    Args:
        path: the file.
        kind: what it should be, with its article: ``a report of `ednag generate```.
        remedy: what to do about it.
        passes: exceptions that say so themselves.

    Raises:
        ValueError: in place of any other exception but :class:`FileNotFoundError`.
    """
    try:
        yield
    except Exception as error:  # what damaged content makes a parser raise can be almost anything
        if isinstance(error, (FileNotFoundError, *passes)):
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        reason = f"no {text}" if isinstance(error, KeyError) else text
        shown = reason if len(reason) <= 120 else f"{reason[:117]}..."  # some reasons quote half the file
        raise ValueError(f"{path} is damaged or not {kind} ({shown}); {remedy}") from None


def read_bytes(path: Path, most: int = LARGEST_TEXT) -> bytes:
    """Read a regular file of bounded size; anything else, such as a pipe, is never waited for.

    Raises:
        FileNotFoundError: if it is absent.
        ValueError: if it is no regular file, or too large.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    regular(path)
    if path.stat().st_size > most:
        raise ValueError(f"it has {path.stat().st_size:,} bytes, more than {most:,}")
    return path.read_bytes()


def regular(path: Path) -> Path:
    """Return the path of a regular file; a pipe would be waited for.

    Raises:
        ValueError: if it is something else.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no regular file")
    return path


def parse_json(text: str | bytes) -> Any:
    """Parse JSON of finite numbers.

    Raises:
        ValueError: if it is none, or holds NaN or a number beyond the range of floats.
    """
    try:
        return json.loads(text, parse_constant=_refuse_number, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path, kind: str, remedy: str, make: Callable[[Any], T], most: int = LARGEST_TEXT) -> T:
    """Read a JSON file, and make something of its content; see :func:`reading`.

    Args:
        path: the file.
        kind: what it should be.
        remedy: what to do if it is not.
        make: may raise anything.
        most: largest size in bytes.
    """
    with reading(path, kind, remedy):
        return make(parse_json(read_bytes(Path(path), most)))


def read_yaml(path: Path, kind: str, remedy: str) -> Any:
    """Read a YAML file of plain values; see :func:`reading`."""
    with reading(path, kind, remedy):
        text = read_bytes(Path(path), LARGEST_YAML).decode("utf-8")
        root = yaml.compose(text, yaml.SafeLoader)
        if root is not None:
            _count_nodes(root, {})
        return yaml.safe_load(text)


def read_npz(path: Path, kind: str, remedy: str) -> dict[str, NDArray[Any]]:
    """Read a numpy archive without running what it may contain, and without trusting the sizes that it states.

    See :func:`reading`.
    """
    with reading(path, kind, remedy):
        with zipfile.ZipFile(regular(Path(path))) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > LARGEST_ARRAYS or total > max(UNSUSPICIOUS, HIGHEST_RATIO * Path(path).stat().st_size):
                raise ValueError(f"its arrays would take {total:,} bytes")
            for member in members:
                with archive.open(member) as stream:
                    _check_array(stream, member)
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}


def check_archive(path: Path, kind: str, remedy: str, old: bool = False) -> None:
    """Check that a file of :func:`torch.save` is whole; see :func:`reading`. ``old`` passes its format that is no archive."""
    with reading(path, kind, remedy):
        if old and not zipfile.is_zipfile(regular(path)):
            return
        with zipfile.ZipFile(regular(path)) as archive:
            if (name := archive.testzip()) is not None:
                raise ValueError(f"{name} in it has changed")


def checked(kind: type[T], row: Any) -> T:
    """Make a dataclass of parsed content, whose values must be of the fields' types.

    Raises:
        ValueError: if there are other fields, fields are missing, or a value is of another type.
    """
    if not isinstance(row, dict):
        raise ValueError(f"expected fields by name, got {_shown(row)}")
    hints = typing.get_type_hints(kind)
    known = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if odd := [name for name in row if name not in known]:
        raise ValueError(f"{odd[0]} is no field of it")
    for name, item in known.items():
        if name in row and not matches(row[name], hints[name]):
            raise ValueError(f"{name} can't be {_shown(row[name])}")
        if name not in row and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise ValueError(f"no {name}")
    return kind(**row)


def matches(value: Any, hint: Any) -> bool:
    """Whether a parsed value is of a type such as ``dict[str, float]``; whole numbers serve as floats."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(matches(value, one) for one in inner)
    if origin is dict:
        return isinstance(value, dict) and all(matches(k, inner[0]) and matches(v, inner[1]) for k, v in value.items())
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(matches(item, inner[0]) for item in value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, origin or (type(None) if hint is None else hint))


def _check_array(stream: IO[bytes], member: zipfile.ZipInfo) -> None:
    """Refuse an array whose header states another size than its member has: numpy would allocate that."""
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    stated = stream.tell() + math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise ValueError(f"{member.filename} holds Python objects, which are not read; store numbers, or texts as str")
    if stated != member.file_size:
        raise ValueError(f"{member.filename} holds {member.file_size:,} bytes where {stated:,} belong")


def _count_nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of values of a YAML node, every alias written out.

    Raises:
        ValueError: beyond :data:`MOST_NODES`, if a value contains itself, or if a key is there twice.
    """
    if id(node) in known:
        return known[id(node)]
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated(node)
    known[id(node)] = MOST_NODES + 1  # of a value that contains itself
    inner: list[Any] = node.value if isinstance(node.value, list) else []
    parts = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
    count = 1 + sum(_count_nodes(part, known) for part in parts)
    if count > MOST_NODES:
        raise ValueError(f"it holds more than {MOST_NODES:,} values")
    known[id(node)] = count
    return count


def _refuse_repeated(node: yaml.MappingNode) -> None:
    """Refuse a key that is there twice: YAML's reader would take the last value without a word."""
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise ValueError(f"{key.value[:40]} is there twice, again in line {key.start_mark.line + 1}")
            seen.add(key.value)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text)


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no finite number")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
