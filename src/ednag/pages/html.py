"""A page as one HTML file without references to anything outside."""

from __future__ import annotations

import base64
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from ednag.pages.blocks import Chart, Page, Table
from ednag.pages.numbers import shown
from ednag.pages.svg import COLOURS, chart_svg, matrix_svg, numbers

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES = Path(__file__).parent / "templates"


def page_html(page: Page) -> str:
    """Lay a page out; all that it holds is escaped, but for pictures."""
    return _template().render(page=page, style=_part("page.css"), script=_part("page.js"))


@cache
def _template() -> Template:
    """The page's template, with what it calls."""
    from jinja2 import Environment, FileSystemLoader

    room = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    for function in (chart_svg, matrix_svg, shown, numeric, legend, marked, data_uri):
        room.globals[function.__name__] = function
    return room.get_template("page.html")


@cache
def _part(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8").strip()


def numeric(table: Table, column: int) -> bool:
    """Tell whether a column holds nothing but numbers, some perhaps with a deviation, and is set to the right."""
    cells = [row[column] for row in table.rows if row[column] is not None]
    return bool(cells) and all(
        " ± " in cell if isinstance(cell, str) else isinstance(cell, (int, float)) and not isinstance(cell, bool)
        for cell in cells
    )


def legend(chart: Chart) -> list[tuple[int, str, bool]]:
    """Colour, name and whether it is muted, of each series that has a name; none of a single series, or more than colours."""
    drawn = numbers(chart.series)
    named = sum(bool(one.name) for one in chart.series if len(one.x))
    if named < 2 or len(drawn) > COLOURS + 1:
        return []
    return [(number, one.name, one.muted) for number, one in drawn if one.name]


def marked(text: str) -> Markup:
    """Escape a sentence, and set what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def data_uri(picture: bytes) -> str:
    """Write a PNG file into an address."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"
