"""``ednag classify``: photographs and folders of them, by a trained network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from ednag.cli.output import say
from ednag.cli.verbs import read_call


def classify(
    run: Path,
    images: list[Path],
    *,
    top: int = 3,
    format: Literal["csv", "json"] = "csv",
    output: Path | None = None,
    batch_size: int = 64,
    threads: int = 2,
    device: str = "cpu",
) -> None:
    """Classify image files with a trained network.

    Args:
        run: a retraining (its best network by validation), the folder of one network (RUN/001), or an export.
        images: files, and folders of files at any depth.
        top: how many classes to tell of each image, the likeliest first.
        format: csv or json.
        output: file to write; printed if omitted.
        batch_size: images that go through the network at once.
        threads: threads that read files.
        device: where the network runs, such as cuda.

    Raises:
        ValueError: if no image could be read.
    """
    from tqdm import tqdm

    from ednag.classify.classifier import load
    from ednag.classify.files import as_csv, as_json, classify_files, find_images
    from ednag.core.storage import atomic_write

    files = find_images(images)
    classifier = load(run).to(device)
    top = min(top, len(classifier.class_names))
    rows = []
    with tqdm(total=len(files), unit=" images", file=sys.stderr, disable=None, delay=1) as bar:
        for some in classify_files(classifier, files, top, batch_size, threads):
            rows += some
            bar.update(len(some))
    text = as_json(rows) if format == "json" else as_csv(rows, top)
    failed = [row["error"] for row in rows if row["error"]]
    if len(failed) == len(rows):
        raise ValueError(failed[0])
    if failed:
        sys.stderr.write(f"{len(failed)} of {len(rows)} images could not be read: {failed[0]}\n")
    if output is None:
        say(text.rstrip("\n"))
        return
    atomic_write(output, lambda stream: stream.write(text.encode()))
    say(f"{len(rows) - len(failed)} images classified: {output}")


def run(prog: str, words: list[str]) -> None:
    """Run ``ednag classify``."""
    read_call(prog, classify, words)()
