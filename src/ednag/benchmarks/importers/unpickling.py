"""Reading the pickles of official releases without running what they may contain."""

from __future__ import annotations

import bz2
import collections
import pickle
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ednag.core.reading import reading, regular

LARGEST = 64 * 2**20
"""Bytes that one unpacked official file may have; those of NATS-Bench have less than a few megabytes."""


class NumberType:
    """Stand-in for ``numpy.dtype`` while unpickling: integers, floats and booleans only."""

    def __init__(self, code: str, *flags: object) -> None:
        if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
            raise pickle.UnpicklingError(f"numbers of type {code!r} are not part of the format")
        self.type = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.type = self.type.newbyteorder(">" if state[1] == ">" else "<")


def _number(kind: NumberType, raw: bytes) -> float:
    """Stand-in for numpy's scalar constructor: the plain Python number."""
    return np.frombuffer(raw, kind.type, count=1)[0].item()  # type: ignore[no-any-return]


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickle ordered dictionaries, numbers, strings and containers of them; refuse every other name."""

    ALLOWED: Mapping[tuple[str, str], Callable[..., Any]] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("numpy", "dtype"): NumberType,
        ("numpy.core.multiarray", "scalar"): _number,
        ("numpy._core.multiarray", "scalar"): _number,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for an allowed name.

        Raises:
            UnpicklingError: for every other name; nothing is imported.
        """
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not part of the format")
        return self.ALLOWED[module, name]


def read_pickle(path: Path) -> Any:
    """Read a bz2-compressed pickle of the official format without running what it may contain.

    Raises:
        FileNotFoundError: if it is absent.
        ValueError: if it is damaged, too large, or contains anything but the format's types.
    """
    try:
        with reading(path, "an official benchmark file", "unpack it again"), bz2.open(regular(path), "rb") as stream:
            content = stream.read(LARGEST + 1)
            if len(content) > LARGEST:
                raise ValueError(f"it unpacks to more than {LARGEST} bytes")
            return RestrictedUnpickler(BytesIO(content)).load()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is absent: the folder is incomplete, unpack the official archive again"
        ) from None


class PickledBooster:
    """Stand-in for a pickled booster: keeps its state and does nothing with it."""

    state: Mapping[str, Any]

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


class BoosterUnpickler(pickle.Unpickler):
    """Unpickle a booster's state: bytes, text, numbers and containers; refuse every other name."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for an allowed name.

        Raises:
            UnpicklingError: for every other name; nothing is imported.
        """
        allowed = {
            ("xgboost.core", "Booster"): PickledBooster,
            ("lightgbm.basic", "Booster"): PickledBooster,
            ("builtins", "bytearray"): bytearray,
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("collections", "defaultdict"): collections.defaultdict,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "scalar"): _scalar,
            ("numpy._core.multiarray", "scalar"): _scalar,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not part of the format")
        return allowed[module, name]


def _scalar(*_: object) -> None:
    """Stand-in for numbers of numpy: no score that a booster remembers is needed."""
