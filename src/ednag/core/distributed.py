"""Runs shared out over the processes of a distributed Trainer; without one, a single process has them all."""

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
    """This process's part of a sequence: consecutive, parts differ by one in length at most, in the order of ranks.

    Raises:
        ValueError: if there are fewer items than processes.
    """
    parts, number = world(), len(items)
    if number < parts:
        raise ValueError(f"{parts} processes need at least {parts} runs to share, got {number}; use fewer devices")
    return items[number * rank() // parts : number * (rank() + 1) // parts]


def gather(value: T) -> list[T]:
    """Exchange a value with all processes; returns everyone's, in the order of ranks. All must call it."""
    if world() == 1:
        return [value]
    found: list[T] = [value] * world()
    distributed.all_gather_object(found, value)
    return found


def everyone(verdict: bool) -> bool:
    """Tell whether something holds in all processes. All must call it."""
    return all(gather(verdict))


def from_first(make: Callable[[], T]) -> T:
    """Let the first process make something, and hand it, or the error that came of it, to all. All must call it."""
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
