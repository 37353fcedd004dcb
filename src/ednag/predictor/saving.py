"""Trained predictors on disk: weights as safetensors, everything else as JSON."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from ednag.__about__ import __version__
from ednag.core.reading import LARGEST_ARRAYS, read_bytes, read_json, reading
from ednag.core.shipped import shipped
from ednag.core.storage import atomic_write, write_json

if TYPE_CHECKING:
    from ednag.predictor.meta_predictor import MetaPredictor

FORMAT = 2
"""Version of the layout of a predictor's folder; 1 knew nothing of the budget of a training."""

WEIGHTS, CONFIG = "weights.safetensors", "config.json"

PREDICTORS = shipped("predictors")
"""Shipped predictors, a folder for each search space: inside the installed package, or in the checkout."""


@dataclass(frozen=True)
class SavedPredictor:
    """What a predictor's folder holds.

    Attributes:
        folder: the folder.
        options: constructor arguments of :class:`~ednag.predictor.meta_predictor.MetaPredictor`.
        weights: its parameters and statistics.
        learned_from: data sets whose benchmark tables taught it.
    """

    folder: Path
    options: dict[str, Any]
    weights: dict[str, Tensor]
    learned_from: list[str]


def save_predictor(predictor: MetaPredictor, folder: Path) -> None:
    """Write a predictor into a folder: the weights, and what is needed to make it again.

    Args:
        predictor: a trained one.
        folder: made if it is missing.
    """
    folder = Path(folder)
    state = {name: value for name, value in predictor.state_dict().items() if not name.startswith("scores.")}
    content = save({name: value.detach().cpu().contiguous() for name, value in state.items()})
    config = {
        "format": FORMAT,
        "hyperparameters": {k: v for k, v in predictor.hparams.items() if not k.startswith("_")},  # the CLI adds some
        "learned_from": predictor.learned_from,
        "sha256": hashlib.sha256(content).hexdigest(),
        "versions": {"ednag": __version__, "torch": torch.__version__},
    }
    atomic_write(folder / WEIGHTS, lambda stream: stream.write(content))
    write_json(folder / CONFIG, config)


def read_predictor(folder: Path | str) -> SavedPredictor:
    """Read what :func:`save_predictor` wrote; see :func:`ednag.predictor.meta_predictor.load_predictor`."""
    folder = find_predictor(folder)
    version, digest, options, learned_from = read_json(
        folder / CONFIG,
        "the configuration of a predictor",
        "copy the folder again",
        lambda config: (
            config["format"],
            str(config["sha256"]),
            dict(config["hyperparameters"]),
            [str(name) for name in config.get("learned_from", [])],
        ),
    )
    if version != FORMAT:
        raise ValueError(
            f"the predictor in {folder} is of format {version}, this program reads format {FORMAT}; train it again with "
            "`ednag fit`, or use the one that ships"
        )
    if not (folder / WEIGHTS).exists():
        raise FileNotFoundError(f"the predictor in {folder} has no {WEIGHTS}; copy the whole folder")
    with reading(folder / WEIGHTS, "the weights of a predictor", "copy it again"):
        content = read_bytes(folder / WEIGHTS, LARGEST_ARRAYS)
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(
            f"{folder / WEIGHTS} is truncated or damaged: its sha256 is not {digest[:12]}..; copy it again"
        )
    with reading(folder / WEIGHTS, "the weights of a predictor", "copy it again"):
        return SavedPredictor(folder, options, load(content), learned_from)


def shipped_predictors() -> list[str]:
    """Names of the predictors that ship, each that of its search space."""
    return sorted(path.parent.name for path in PREDICTORS.glob(f"*/{CONFIG}"))


def find_predictor(name: Path | str) -> Path:
    """Find a predictor's folder; see :func:`ednag.predictor.meta_predictor.load_predictor`.

    Raises:
        FileNotFoundError: if there is none, naming those that ship.
    """
    for folder in (Path(name), Path(name) / "predictor", PREDICTORS / name):
        if (folder / CONFIG).exists():
            return folder
    if Path(name).is_file():
        raise FileNotFoundError(
            f"{name} is a file; give the folder of a predictor, or the run directory of `ednag fit`"
        )
    shipped = ", ".join(shipped_predictors()) or "none"
    raise FileNotFoundError(
        f"no predictor {str(name)!r}; shipped: {shipped}. Train one with `ednag fit --config "
        "fit/meta_predictor` (for another space, on what `ednag collect` gathers), and give its run directory"
    )
