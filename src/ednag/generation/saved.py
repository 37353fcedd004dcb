"""Whether a saved state belongs to the generation that is to go on from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ednag.core.distributed import rank, world
from ednag.data.digests import differing


def own_part(saved: dict[str, Any]) -> dict[str, Any]:
    """Return this process's part of a saved state.

    Raises:
        ValueError: if it was saved by another number of processes.
    """
    shards = saved.get("shards", [saved])
    if len(shards) != world():
        raise ValueError(
            f"the saved state is of {len(shards)} process(es), this run has {world()}; "
            f"resume with --trainer.devices {len(shards)}"
        )
    part: dict[str, Any] = shards[rank()]
    return part


def check_runs(saved: Mapping[str, Any], seeds: Sequence[int], evaluations: int | None) -> bool:
    """Say whether a saved state is to be extended to more evaluations.

    Raises:
        ValueError: if it is of other seeds, or of more evaluations.
    """
    before, spent = saved["state"]["noise"]["seeds"], saved["evaluations"]
    more = evaluations is not None and spent is not None and evaluations > spent
    if list(seeds) != before or (evaluations != spent and not more):
        raise ValueError(
            f"the saved state is of {len(before)} runs from seed {before[0]} with evaluations={spent}; "
            f"got {len(seeds)} runs from seed {seeds[0]} with evaluations={evaluations}. "
            "Resume with the run's own config or more evaluations, or start a new run"
        )
    return more


def check_same(saved: Mapping[str, Any], plan: str, images: dict[str, Any]) -> None:
    """Refuse a saved state of another job.

    Args:
        saved: the state.
        plan: fingerprint of what is generated, and how.
        images: identity of the images (:func:`ednag.data.digests.identity`), empty if there are none.

    Raises:
        ValueError: if either differs.
    """
    if saved["plan"] != plan:
        raise ValueError(
            "the saved state is of another space, fitness, sampler or limits, or of another version of EDNAG; resume "
            "with the run's own config, or start a new run"
        )
    if "images" in saved and saved["images"] != images:
        raise ValueError(
            "the images, or how they are read, are not those that this run was begun with (different: "
            f"{differing(saved['images'], images)}); resume it with the same ones, wherever they are "
            "(--data.root), or start a new run"
        )
