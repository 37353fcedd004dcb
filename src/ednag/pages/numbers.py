"""Numbers as people read them: short texts, and round values along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
"""Units of large numbers along an axis."""


def shown(value: object) -> str:
    """Write a table cell: four significant digits, thousands apart, a dash for nothing."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "\N{EN DASH}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def counted(number: int, thing: str) -> str:
    """Write how many there are of something: ``1 epoch``, ``7 epochs``."""
    return f"{number:,} {thing if number == 1 else thing + 's'}"


def with_deviation(mean: float, deviation: float) -> str:
    """Write a mean with its standard deviation, both to the deviation's second digit: ``93.90 ± 0.35``."""
    if not (math.isfinite(mean) and math.isfinite(deviation)):
        return f"{shown(mean)} ± {shown(deviation)}"
    digits = 2 if deviation <= 0 else min(max(1 - math.floor(math.log10(deviation)), 0), 6)
    return f"{mean:,.{digits}f} ± {deviation:,.{digits}f}"


def short(value: float) -> str:
    """Write a value along an axis: ``1.5M``, ``200k``, ``0.25``."""
    for size, unit in UNITS:
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.6g}"


def ticks(
    low: float,
    high: float,
    most: int = 6,
    whole: bool = False,
    possible: tuple[float, float] = (-math.inf, math.inf),
) -> list[float]:
    """Choose round values from ``low`` to ``high``: steps of 1, 2, 2.5 or 5 times a power of ten.

    Args:
        low: where the axis begins.
        high: where it ends.
        most: how many, at most.
        whole: whether they must be whole numbers.
        possible: least and largest value that there can be.
    """
    if not high > low:
        return [low]
    raw = (high - low) / max(most - 1, 1)
    size = 10.0 ** math.floor(math.log10(raw))
    steps = [factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= raw * (1 - 1e-9)]
    step = next((value for value in steps if value.is_integer()), 1.0) if whole else steps[0]
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    values = [round(i * step, 12) for i in range(first, last + 1)]
    return [value for value in values if possible[0] <= value <= possible[1]]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Choose round values along a logarithmic axis: as many of each power of ten as there is room for; positive bounds."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in (range(1, 10), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**d for d in decades for f in factors if low * 0.999 <= f * 10.0**d <= high * 1.001]
        if len(found) <= most:
            break
    return found if len(found) >= 2 else ticks(low, high, most)


def extent(values: Sequence[float], room: float = 0.05) -> tuple[float, float]:
    """Least and largest finite value with some room on both sides; 0 to 1 if there is none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    pad = room * (high - low) or abs(high) * room or 1.0
    return low - pad, high + pad
