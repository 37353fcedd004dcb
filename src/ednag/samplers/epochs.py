"""Epochs of a run that restarts: which evaluations belong to the current one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ednag.samplers.base import State


def opened(state: State, initial: int) -> State:
    """Open a new epoch in runs that are ``over``, when they are asked for more.

    What is known by now is of the old epoch, and so is what it asked for that is still pending: their keys are ``left``, and
    they are no members of the new one when they end (:func:`of_earlier`).

    Args:
        state: with the memory of :meth:`ednag.samplers.ArchiveDiffusion.start`.
        initial: unscreened evaluations of the new epoch.
    """
    memory, over = state.memory, state.memory["over"]
    if not bool(over.any()):
        return state
    nothing = torch.full_like(memory["best"], -torch.inf)
    place = state.known[:, None] + torch.arange(state.pending, device=over.device)
    return replace(
        state,
        memory={
            **memory,
            "epoch": state.known.where(over, memory["epoch"]),
            "opening": memory["opening"].masked_fill(over, initial),
            "stale": memory["stale"].masked_fill(over, 0),
            "best": nothing.where(over, memory["best"]),
            "judge": state.known.where(over, memory["judge"]),
            "left": state.archive.keys.gather(1, place),  # pending ones are of a single run, which is over then
            "over": torch.zeros_like(over),
        },
    )


def of_earlier(state: State) -> Tensor:
    """Mark what an earlier epoch asked for and that was still pending when the current one began, bool ``(R, M)``."""
    keys, left = state.archive.keys, state.memory["left"]
    return torch.isin(keys, left) if left.shape[1] else torch.zeros_like(keys, dtype=torch.bool)


def pending(state: State) -> Tensor:
    """Genes of the pending evaluations that the current epoch asked for, int64 ``(1, P, L)``; ``(R, 0, L)`` if there are none."""
    if state.pending == 0:
        return state.archive.genes[:, :0]
    known, count = int(state.known), int(state.archive.count)
    mine = ~of_earlier(state)[0, known:count]
    return state.archive.genes[:, known:count][:, mine]
