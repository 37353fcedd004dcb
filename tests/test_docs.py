"""The documentation is true: its commands run, its configurations exist, its files are complete."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from ednag.benchmarks.locate import locate
from ednag.core.shipped import shipped
from ednag.generation.report import Report

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs/hooks"))
from reference import ROOMS, public_names  # noqa: E402

PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]+) -->\n)?^```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the comment above it."""

    page: str
    kind: str
    title: str
    text: str
    mark: str

    @property
    def commands(self) -> list[str]:
        return [line[2:] for line in self.text.replace("\\\n", " ").splitlines() if line.startswith("$ ")]

    @property
    def group(self) -> str:
        """Blocks of one group run one after the other in one folder; empty for a block that is not run."""
        return self.mark.removeprefix("run: ").split(",")[0] if self.mark.startswith("run: ") else ""

    def option(self, name: str) -> str:
        found = re.search(rf"{name}: (.+?)(?:, \w+: |$)", self.mark)
        return found[1] if found else ""


def blocks(path: Path) -> list[Block]:
    text = re.sub(
        r'^--8<-- "(.+)"$', lambda found: (ROOT / found[1]).read_text().rstrip(), path.read_text(), flags=re.M
    )
    return [
        Block(path.name, found["kind"], found["title"] or "", found["text"], found["mark"] or "")
        for found in BLOCK.finditer(text)
    ]


ALL = [block for page in PAGES for block in blocks(page)]
CONSOLE = [block for block in ALL if block.kind == "console"]
GROUPS = sorted({(block.page, block.group) for block in CONSOLE if block.group})


def test_every_command_is_run_or_says_why_not() -> None:
    assert len(CONSOLE) > 10
    unmarked = [block for block in CONSOLE if not re.match(r"(run: [\w-]+|not run: .+)", block.mark)]
    assert not unmarked


@pytest.mark.parametrize("command", sorted({command for block in CONSOLE for command in block.commands}))
def test_what_a_command_names_exists(command: str) -> None:
    words = shlex.split(command, comments=True)
    for word, value in pairwise(words):
        own = any(block.title == value for block in ALL)
        if word == "--config" and not own:
            assert (shipped("configs") / f"{value}.yaml").exists()
        if word == "python" and value.endswith(".py") and not own:
            assert (ROOT / value).exists()
        if word == "make":
            assert re.search(rf"^{value}:", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_class_has_an_example(room: str) -> None:
    for name in public_names(ROOMS[room][1]):
        module, _, last = name.rpartition(".")
        if room != "mathematics" or last[0].isupper():
            thing = getattr(importlib.import_module(module), last)
            assert not isinstance(thing, type) or "Examples:\n" in (thing.__doc__ or ""), name


@pytest.mark.slow
@pytest.mark.parametrize(("page", "group"), GROUPS)
def test_the_commands_run(page: str, group: str, tmp_path: Path) -> None:
    """Type what the page says, in an empty folder that holds the files of the page."""
    mine = [block for block in CONSOLE if (block.page, block.group) == (page, group)]
    for name in {name for block in mine if (name := block.option("needs"))}:
        try:
            locate(name)
        except FileNotFoundError as error:
            pytest.skip(str(error))
    for block in ALL:
        if block.page == page and block.title:
            path = tmp_path / block.title
            path.parent.mkdir(exist_ok=True)
            with path.open("a") as file:  # a page may give a file in several pieces
                file.write(block.text + "\n")
    script = "\n".join(
        ["set -e", *(f"{command} {block.option('with')}" for block in mine for command in block.commands)]
    )
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"PYTHONPATH": f"{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}  # tests run side by side
    ended = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    if group == "own":
        report = Report.load(tmp_path / "runs/own")
        assert report.space["class_path"] == "own_parts.space.Chain"
        assert report.fitness == "ridge probe accuracy, %"
        assert (tmp_path / "runs/own/best.svg").exists()
        assert (tmp_path / "runs/own/trained/001/weights.safetensors").exists()
