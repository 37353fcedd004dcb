"""Pages of the site that are made from the code: command line, configurations, API, and the READMEs of data folders.

MkDocs calls :func:`on_files` and :func:`on_page_markdown`; see ``mkdocs.yml``.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from ednag.cli.main import main
from ednag.cli.verbs import VERBS

ROOT = Path(__file__).parents[2]

READMES = {
    "data/README.md": "data.md",
    "data/benchmarks/README.md": "reference/benchmarks.md",
    "data/meta/README.md": "reference/meta_data.md",
    "predictors/nasbench201/README.md": "reference/meta_predictor.md",
    "predictors/knowledge/README.md": "reference/knowledge.md",
}
"""Pages that are files of the repository, by the file."""

ROOMS: Mapping[str, tuple[str, str | Sequence[str]]] = {
    "spaces": ("Search spaces: what architectures there are, and the network of each.", "ednag.spaces"),
    "samplers": ("Samplers, and the parts that they are made of.", "ednag.samplers"),
    "fitness": ("What an architecture is worth.", "ednag.fitness"),
    "costs": ("What a network costs.", "ednag.costs"),
    "data": ("Images: Lightning data modules.", "ednag.data"),
    "generation": (
        "From noise to a report.",
        [
            "ednag.generation.run.Generation",
            "ednag.generation.report.Report",
            "ednag.generation.report.Candidate",
            "ednag.generation.comparison.Comparison",
        ],
    ),
    "retraining": (
        "From a report to trained networks.",
        [
            "ednag.retraining.job.retrain",
            "ednag.retraining.module.Recipe",
            "ednag.retraining.finetuning.FineTuning",
            "ednag.retraining.module.ImageClassifier",
            "ednag.retraining.results.Result",
            "ednag.retraining.results.Summary",
            "ednag.retraining.supernet.SupernetWeights",
        ],
    ),
    "classify": (
        "A trained network put to use.",
        [
            "ednag.classify.classifier.load",
            "ednag.classify.classifier.Classifier",
            "ednag.data.preprocessing.Preprocessing",
        ],
    ),
    "export": ("A trained network for other programs.", ["ednag.export.run.export"]),
    "predictor": (
        "Models that are trained to predict accuracy.",
        [
            "ednag.predictor.meta_predictor.MetaPredictor",
            "ednag.predictor.meta_data.MetaData",
            "ednag.predictor.accuracy_regressor.AccuracyRegressor",
            "ednag.predictor.accuracy_regressor.MeasuredNetworks",
        ],
    ),
    "engine": (
        "The Lightning Trainer with EDNAG's verbs, and callbacks for a `fit`.",
        [
            "ednag.engine.trainer.Trainer",
            "ednag.engine.callbacks.GenerationCallback",
            "ednag.engine.callbacks.RetrainingCallback",
        ],
    ),
    "mathematics": (
        "Diffusion and evolution as functions of tensors, without a framework.",
        [
            "ednag.diffusion.gaussian",
            "ednag.diffusion.categorical",
            "ednag.evolution.operators",
            "ednag.evolution.pareto",
            "ednag.core.noise.Noise",
            "ednag.core.archive.Archive",
        ],
    ),
    "testing": (
        "Checks that your own space and sampler can inherit. See [Extend it](../../extending.md).",
        ["ednag.testing.SpaceChecks", "ednag.testing.SamplerChecks"],
    ),
}
"""The pages of the API: what a page is about, and a package that lists its own names or a list of them."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made from the code."""
    pages = {page: (ROOT / file).read_text(encoding="utf-8") for file, page in READMES.items()}
    pages["reference/cli.md"] = command_line()
    pages["reference/configurations.md"] = configurations()
    pages |= {f"reference/api/{room}.md": api(room) for room in ROOMS}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links to files of the repository lead to their pages, or become plain code where they have none."""
    here = next((file for file, name in READMES.items() if name == page.file.src_uri), f"docs/{page.file.src_uri}")

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        path = os.path.relpath((ROOT / here).parent / target, ROOT)
        if path in READMES:
            return f"[{text}]({os.path.relpath(READMES[path], Path(page.file.src_uri).parent)}{anchor})"
        if path.startswith("docs/") or not (ROOT / path).exists():
            return found[0]
        return f"`{path}`"

    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:)([^)#\s]+)(#[^)]*)?\)", link, markdown)


def api(room: str) -> str:
    """Write the page of a room: every public name of it."""
    about, names = ROOMS[room]
    title = "testing" if room == "testing" else room
    return "\n\n".join([f"# {title.capitalize()}", about, *(f"::: {name}" for name in public_names(names)), ""])


def public_names(names: str | Sequence[str]) -> list[str]:
    """List the full names that a package exports, or pass a list on."""
    if not isinstance(names, str):
        return list(names)
    package = importlib.import_module(names)
    return [f"{names}.{name}" for name in sorted(package.__all__, key=str.lower)]


def command_line() -> str:
    """Write what ``--help`` prints for the program, every verb, and every choice of class."""
    parts = ["# Command line", "What the program prints itself, made when this site was built.", section("ednag")]
    for verb in VERBS:
        parts.append(section(f"ednag {verb}"))
        listed = re.findall(r"^  (\w+)  +\S", help_of(verb), re.M) if f"{verb} VERB" in help_of(verb) else []
        parts += [section(f"ednag {verb} {word}") for word in listed]
    parts += ["## Choices of classes", "`ednag generate --OPTION.help` lists what an option can be:"]
    parts += [f"```text\n{printed('generate', f'--{option}.help')}\n```" for option in CHOICES]
    return "\n\n".join([*parts, ""])


CHOICES = ("space", "fitness", "sampler", "data")


def section(words: str) -> str:
    """Write the help of ``ednag VERB ...`` under a heading."""
    level = "##" if words.count(" ") < 2 else "###"
    return f"{level} {words}\n\n```text\n{help_of(*words.split()[1:])}\n```"


@cache
def help_of(*words: str) -> str:
    """Return what ``ednag ... --help`` prints."""
    return printed(*words, "--help")


def printed(*words: str) -> str:
    """Run the command line in this process, 80 columns wide, and return what it prints."""
    out = io.StringIO()
    before = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR")}
    os.environ.update(COLUMNS="80", NO_COLOR="1")
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            status = main(list(words))
            if status:
                raise RuntimeError(f"ednag {' '.join(words)} ended with status {status}")
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return out.getvalue().rstrip()


def configurations() -> str:
    """Write every shipped configuration, with what its first comment says."""
    parts = [
        "# Configurations",
        "These ship with the package. `ednag configs` lists them, `ednag configs show NAME` prints one, and "
        "`--config NAME` uses one from any folder.",
        "!!! warning\n    A configuration is code: each `class_path` in it is imported and called with its "
        "`init_args`. Read a stranger's configuration before you run it, as you would read a script.",
    ]
    folder = ROOT / "configs"
    for path in sorted(folder.rglob("*.yaml"), key=lambda file: (file.parent != folder, file)):
        text = path.read_text(encoding="utf-8").rstrip()
        parts.append(f"## {path.relative_to(folder).with_suffix('')}\n\n```yaml\n{text}\n```")
    return "\n\n".join([*parts, ""])
