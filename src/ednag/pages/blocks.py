"""What a page is made of: tables, charts, matrices, drawings and thumbnails, as plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: short, for trackers.
        header: a title for each column.
        rows: cells; numbers are shown with four significant digits, ``None`` as a dash.
        caption: a sentence below.
    """

    name: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""


@dataclass(frozen=True)
class Series:
    """Points of a chart that belong together.

    Attributes:
        name: for the legend; empty for none.
        x: of each point.
        y: of each point; NaN where there is none.
        kind: points joined by lines or by steps, or apart.
        tips: what is shown for each point under the pointer; made from names and values if omitted.
        low: lower edge of a band around the points.
        high: upper edge.
        muted: drawn grey, behind the others.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    kind: Literal["line", "step", "points"] = "line"
    tips: Sequence[str] = ()
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    muted: bool = False


def together(series: Sequence[Series]) -> list[Series]:
    """Series as they are drawn: those that lie on each other are one, under all their names; empty ones are left out."""
    out: list[Series] = []
    for one in (one for one in series if len(one.x)):
        place = next((place for place, other in enumerate(out) if _on_each_other(one, other)), None)
        if place is None:
            out.append(one)
        else:
            other = out[place]
            tips = [f"{mine}\n{its}" for mine, its in zip(other.tips, one.tips, strict=True)]
            out[place] = replace(other, name=f"{other.name}, {one.name}", tips=tips)
    return out


def _on_each_other(one: Series, other: Series) -> bool:
    """Whether two named series would be drawn alike."""
    if not (one.name and other.name) or (one.kind, one.muted, len(one.tips)) != (
        other.kind,
        other.muted,
        len(other.tips),
    ):
        return False
    return all(
        len(mine) == len(its) and all(a == b or (a != a and b != b) for a, b in zip(mine, its, strict=True))
        for mine, its in ((one.x, other.x), (one.y, other.y), (one.low, other.low), (one.high, other.high))
    )


PERCENT = (0.0, 100.0)
"""What is possible of a share in percent."""


def possible_of(measure: str) -> tuple[float, float]:
    """Least and largest value that a measure can have, by its name: that of a share ends with ``(%)``."""
    return PERCENT if measure.endswith("(%)") else (-math.inf, math.inf)


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        name: short, for trackers.
        title: above it.
        x_label: what is to the right.
        y_label: what is upwards.
        series: drawn in this order, muted ones first.
        x_log: a logarithmic axis.
        diagonal: a line of equal x and y.
        y_range: least and largest y; those of the series if omitted.
        possible: least and largest y that there can be: no value along the axis is beyond.
        caption: a sentence below.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    x_log: bool = False
    diagonal: bool = False
    y_range: tuple[float, float] | None = None
    possible: tuple[float, float] = (-math.inf, math.inf)
    caption: str = ""


@dataclass(frozen=True)
class Matrix:
    """Counts by row and column, such as true and predicted classes.

    Attributes:
        name: short, for trackers.
        title: above it.
        row_label: what a row is.
        column_label: what a column is.
        names: of rows and columns.
        counts: a list for each row.
        caption: a sentence below.
    """

    name: str
    title: str
    row_label: str
    column_label: str
    names: Sequence[str]
    counts: Sequence[Sequence[int]]
    caption: str = ""


@dataclass(frozen=True)
class Drawing:
    """A drawing that is there already, as SVG.

    Attributes:
        title: above it.
        svg: the picture.
    """

    title: str
    svg: str


@dataclass(frozen=True)
class Thumbnails:
    """Small pictures.

    Attributes:
        title: above them.
        pictures: PNG files, each with its lines of text.
        caption: a sentence below.
    """

    title: str
    pictures: Sequence[tuple[bytes, Sequence[str]]]
    caption: str = ""


Block = Table | Chart | Matrix | Drawing | Thumbnails


@dataclass(frozen=True)
class Section:
    """Part of a page.

    Attributes:
        title: its heading.
        blocks: what is in it.
        text: a sentence before them.
    """

    title: str
    blocks: Sequence[Block]
    text: str = ""


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        kind: the verb whose run it is of.
        title: what it is about.
        lead: the result in a sentence or two.
        facts: numbers to see first, each with its name.
        sections: the rest; those without blocks are left out.
        notes: what it was made with, in lines.
    """

    kind: str
    title: str
    lead: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    notes: Sequence[str] = field(default_factory=list)

    def blocks(self) -> list[Block]:
        """All that is in the sections, in order."""
        return [block for section in self.sections for block in section.blocks]
