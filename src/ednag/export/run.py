"""``ednag export``: everything that another program, or another person, needs to use a trained network."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from ednag.classify.classifier import load
from ednag.classify.saved import find, read_architecture
from ednag.core.names import unknown
from ednag.core.ownership import clean, owned
from ednag.core.storage import atomic_write, write_json
from ednag.export.formats import Exported, write_safetensors, write_torch_export
from ednag.export.model_card import model_card
from ednag.export.onnx_file import write_onnx

Format = Literal["onnx", "torch_export", "safetensors", "onnx_int8", "onnx_any_size"]
"""What :func:`export` can write."""

ALWAYS: tuple[Format, ...] = ("onnx", "torch_export", "safetensors")
"""What it writes if nothing is asked for."""

PROGRAM = Path(__file__).with_name("use_onnx.py")
"""A program that classifies images with an exported network; copied, never imported."""

log = logging.getLogger(__name__)


def export(
    run: Path,
    formats: Sequence[str] | None = None,
    output: Path | None = None,
    include_preprocessing: bool = False,
    opset: int | None = None,
) -> list[Exported]:
    """Write a trained network for other programs, and check each file against the original on random images.

    ``onnx`` writes ``network.onnx`` and ``use_onnx.py``, a program that classifies images with it (any batch size; needs
    the packages ``onnx``, ``onnxscript`` and ``onnxruntime``); ``onnx_int8`` also ``network.int8.onnx``, with its accuracy
    and time beside the other's in ``network.int8.json``; ``onnx_any_size`` writes ``network.any_size.onnx``, which scales and
    cuts images itself; ``torch_export`` writes ``network.pt2`` (any batch size);
    ``safetensors`` copies weights and architecture. Beside them, ``preprocessing.json`` says how an image becomes an
    input, as ``architecture.json`` and the metadata of ONNX files do, and ``README.md`` is a model card.

    Args:
        run: see :func:`ednag.classify.classifier.load`.
        formats: what to write; if omitted, ``onnx``, ``torch_export`` and ``safetensors``.
        output: folder for the files; if omitted, ``export`` in the network's folder.
        include_preprocessing: let the ONNX files take 8-bit pixels and return probabilities; else they take normalised
            images and return logits.
        opset: version of ONNX's operators; if omitted, the exporter's own.

    Raises:
        ValueError: for an unknown format or opset, or if a file's outputs differ from the network's; that file is not
            kept then.
        FileNotFoundError: if there is no such network.
        ModuleNotFoundError: if a package that a format needs is missing.
    """
    chosen: list[str] = list(ALWAYS if formats is None else formats)
    odd = [name for name in chosen if name not in get_args(Format)]
    if odd or not chosen:
        raise ValueError(unknown("export format", ", ".join(odd) or "(none)", get_args(Format)))
    folder = find(Path(run))
    network, architecture = load(folder).network, read_architecture(folder)
    given, output = output, folder / "export" if output is None else Path(output)
    with owned(output, "choose another --output"):
        if given is None:  # any other folder can hold unfinished files of others
            clean(output)
        done = _write(network, architecture, output, chosen, folder, include_preprocessing, opset)
    for item in done:
        log.info("%s: %s (largest relative difference %.1e)", item.format, item.path, item.error)
    return done


def _write(
    network: nn.Module,
    architecture: dict[str, Any],
    output: Path,
    chosen: Sequence[str],
    folder: Path,
    include_preprocessing: bool,
    opset: int | None,
) -> list[Exported]:
    """Write all files of an export."""
    done: list[Exported] = []
    if "onnx" in chosen or "onnx_int8" in chosen:
        done += _onnx_files(network, architecture, folder, output, chosen, include_preprocessing, opset)
    if "onnx_any_size" in chosen:
        from ednag.export.any_size import write_any_size

        done.append(write_any_size(network, architecture, output, opset))
    if "torch_export" in chosen:
        done.append(write_torch_export(network, architecture, output))
    if "safetensors" in chosen:
        done.append(write_safetensors(network, architecture, output))
    write_json(output / "preprocessing.json", architecture.get("preprocessing", {}))
    card = model_card(folder, architecture, done)
    atomic_write(output / "README.md", lambda stream: stream.write(card.encode()))
    return done


def _onnx_files(
    network: nn.Module,
    architecture: dict[str, Any],
    folder: Path,
    output: Path,
    chosen: Sequence[str],
    include_preprocessing: bool,
    opset: int | None,
) -> list[Exported]:
    """Write the ONNX files that were asked for; one of 8-bit integers is made from the other."""
    done = [write_onnx(network, architecture, output, include_preprocessing, opset)]
    shutil.copyfile(PROGRAM, output / "use_onnx.py")
    if "onnx_int8" in chosen:
        from ednag.export.quantisation import write_int8
        from ednag.export.run_data import open_run_data

        done.append(write_int8(done[0].path, open_run_data(folder), architecture, output, include_preprocessing))
    return done
