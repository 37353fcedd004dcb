"""``ednag demo``: from noise to trained networks, on images that are installed already."""

from __future__ import annotations

from pathlib import Path

from ednag.cli.output import say
from ednag.cli.run_directory import new_run_dir
from ednag.cli.verbs import VERBS, read_call


def demo(*, run_dir: Path | None = None, epochs: int | None = None) -> int:
    """Generate architectures for images of handwritten digits, then train the best three.

    About a minute on two cores. Nothing is downloaded (the images are scikit-learn's) and no GPU is needed (scores come
    from untrained networks).

    Args:
        run_dir: new directory for all results; by default one in runs.
        epochs: of each training; by default those of the configuration retrain/digits.

    Returns:
        exit status.
    """
    folder = run_dir or new_run_dir("demo")
    steps = {
        "generate": ["--config=generate/demo", f"--run_dir={folder}"],
        "retrain": [
            "--config=retrain/digits",
            f"--report={folder / 'report.json'}",
            f"--run_dir={folder / 'retrained'}",
        ],
    }
    if epochs is not None:
        steps["retrain"].append(f"--recipe.epochs={epochs}")
    for verb, words in steps.items():
        say(f"$ ednag {verb} {' '.join(words).replace('=', ' ')}")
        status = VERBS[verb].run(f"ednag {verb}", words)
        if status:
            return status
    say(f'use the best network from Python: ednag.load("{folder / "retrained"}")')
    return 0


def run(prog: str, words: list[str]) -> int:
    """Run ``ednag demo``."""
    return int(read_call(prog, demo, words)())
