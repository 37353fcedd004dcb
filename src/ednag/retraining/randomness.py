"""Where all random numbers of a training stand, so that one that is resumed draws what it would have drawn."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch


def random_state(trainer: pl.Trainer) -> dict[str, Any]:
    """Take the state of Python's, numpy's and torch's numbers, and of the training loaders' own, as primitives and tensors."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "loaders": [generator.get_state() for generator in _generators(trainer)],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(trainer: pl.Trainer, state: dict[str, Any]) -> None:
    """Continue from what :func:`random_state` took; after the loaders were made, before they are iterated."""
    kind, keys, *rest = state["numpy"]
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    for generator, position in zip(_generators(trainer), state["loaders"], strict=False):
        generator.set_state(position.cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([position.cpu() for position in state["cuda"]])


def fetch_anew(trainer: pl.Trainer) -> None:
    """Iterate over the training loaders again, from what they are set to now.

    Lightning does so before each epoch but the first of a fit: that one's iterator is made before the samplers are told
    the epoch, and its workers have drawn epoch 0's order and augmentation by then.
    """
    fetcher = trainer.fit_loop._data_fetcher
    if fetcher is not None:
        iter(fetcher)


def _generators(trainer: pl.Trainer) -> Iterator[torch.Generator]:
    """Generators that training loaders were given, each once."""
    loader = trainer.fit_loop._combined_loader
    found = [getattr(one, "generator", None) for one in (loader.flattened if loader is not None else ())]
    return iter({id(one): one for one in found if isinstance(one, torch.Generator)}.values())
