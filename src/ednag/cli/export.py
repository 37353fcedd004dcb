"""``ednag export``: trained networks for other programs."""

from __future__ import annotations

from pathlib import Path

from ednag.cli.output import say
from ednag.cli.verbs import read_call


def export_network(
    run: Path,
    *,
    formats: list[str] | None = None,
    output: Path | None = None,
    include_preprocessing: bool = False,
    opset: int | None = None,
) -> None:
    """Write a trained network for other programs, and check each file against the original on random images.

    onnx writes network.onnx and use_onnx.py, a program that classifies images with it (needs pip install 'ednag[onnx]');
    onnx_int8 also network.int8.onnx, with its accuracy and time; onnx_any_size network.any_size.onnx, which scales and cuts
    8-bit images of any size itself; torch_export network.pt2; safetensors weights and architecture. Any batch size. preprocessing.json says how an image becomes an input, README.md is a model card.

    Args:
        run: folder of a retrained architecture (RUN/001), or of a whole retraining, whose best by validation is taken.
        formats: what to write, such as [onnx]; the first of each kind (onnx, torch_export, safetensors) by default.
        output: folder for the files; RUN/001/export by default.
        include_preprocessing: let ONNX files take 8-bit pixels and return probabilities, not normalised images and logits.
        opset: version of ONNX's operators; the exporter's by default.
    """
    from ednag.export.run import export

    for written in export(run, formats, output, include_preprocessing, opset):
        say(written)


def run(prog: str, words: list[str]) -> None:
    """Run ``ednag export``."""
    read_call(prog, export_network, words)()
