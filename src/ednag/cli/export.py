"""``ednag export``: trained networks for other programs."""

from __future__ import annotations

from pathlib import Path

from ednag.cli.output import say
from ednag.cli.verbs import read_call


def export_network(run: Path, *, formats: list[str] | None = None, output: Path | None = None) -> None:
    """Write a trained network for other programs, and check each file against the original on random images.

    onnx writes network.onnx (any batch size; needs pip install 'ednag[onnx]'), torch_export network.pt2 (any batch size),
    safetensors weights and architecture. Inputs are normalised images; mean and standard deviation are in
    architecture.json, and in the metadata of the ONNX file.

    Args:
        run: folder of a retrained architecture (RUN/001), or of a whole retraining, whose best by validation is taken.
        formats: what to write, such as [onnx]; all of them by default.
        output: folder for the files; RUN/001/export by default.
    """
    from ednag.retraining.export import export

    for written in export(run, formats, output):
        say(written)


def run(prog: str, words: list[str]) -> None:
    """Run ``ednag export``."""
    read_call(prog, export_network, words)()
