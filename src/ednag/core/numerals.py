"""Numbers as sentences tell them."""

from __future__ import annotations


def written_out(value: float) -> str:
    """Write a number: from a thousand on in full, unless it is astronomical, and briefly below.

    Examples:
        >>> written_out(35e6), written_out(2.5), written_out(1e20)
        ('35,000,000', '2.5', '1e+20')
    """
    return f"{value:,.0f}" if 1000 <= value < 1e15 else f"{value:g}"
