"""Split runs over the processes of a distributed Trainer; a single process keeps them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import distributed

T = TypeVar("T")


def world() -> int:
    """Number of processes that work together; 1 without a distributed Trainer."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if world() > 1 else 0


def share(items: Sequence[T]) -> Sequence[T]:
    """Return this process's consecutive part of a sequence; parts differ in length by at most one.

    Raises:
        ValueError: if there are fewer items than processes.
    """
    parts, number = world(), len(items)
    if number < parts:
        raise ValueError(f"{parts} processes need at least {parts} runs to share, got {number}; use fewer devices")
    return items[number * rank() // parts : number * (rank() + 1) // parts]


def gather(value: T) -> list[T]:
    """Gather a value from all processes, in the order of ranks. Collective."""
    if world() == 1:
        return [value]
    found: list[T] = [value] * world()
    distributed.all_gather_object(found, value)
    return found


def everyone(verdict: bool) -> bool:
    """Return whether the verdict is true in all processes. Collective."""
    return all(gather(verdict))


def from_first(make: Callable[[], T]) -> T:
    """Compute on rank 0; broadcast the result or its exception. Collective."""
    made: T | None = None
    failed: Exception | None = None
    if rank() == 0:
        try:
            made = make()
        except Exception as error:
            failed = error
    made, failed = gather((made, failed))[0]
    if failed is not None:
        raise failed
    return made  # type: ignore[return-value]
