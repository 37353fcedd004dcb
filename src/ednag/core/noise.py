"""One stream of random numbers per run."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Noise:
    """One random stream per run, so that a run gives the same result alone and in a batch.

    Args:
        seeds: one seed per run, each in ``0 .. 2**63 - 1``.
        device: where numbers are drawn. Streams differ between kinds of device.

    Raises:
        ValueError: if there is no seed, or one is negative.

    Examples:
        >>> noise = Noise([0, 1])  # two runs
        >>> noise.uniform(3).shape
        torch.Size([2, 3])
        >>> torch.equal(Noise([1]).uniform(3)[0], Noise([0, 1]).uniform(3)[1])
        True
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        if len(seeds) == 0 or min(seeds) < 0:
            raise ValueError(f"seeds must be one or more integers >= 0, got {list(seeds)}")
        self.seeds = [int(seed) for seed in seeds]
        self.device = torch.device(device)
        self._streams = [torch.Generator(self.device).manual_seed(seed) for seed in self.seeds]

    def __len__(self) -> int:
        return len(self._streams)

    def of(self, runs: Sequence[int]) -> Noise:
        """The streams of some of the runs, by their places; whoever draws from these moves the same streams on."""
        part = copy.copy(self)
        part.seeds = [self.seeds[run] for run in runs]
        part._streams = [self._streams[run] for run in runs]
        return part

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers, float32, of shape ``(R, *shape)``."""
        return together([torch.randn(shape, generator=g, device=self.device) for g in self._streams])

    def uniform(self, *shape: int) -> Tensor:
        """Draw uniform numbers in ``[0, 1)``, float32, of shape ``(R, *shape)``."""
        return together([torch.rand(shape, generator=g, device=self.device) for g in self._streams])

    def integers(self, high: Tensor, *shape: int) -> Tensor:
        """Draw integers uniformly from ``0 .. high - 1``, int64, of shape ``(R, *shape)``.

        Args:
            high: positive integers that broadcast against ``(R, *shape)``.
            shape: shape of one run's draw.
        """
        return torch.minimum((self.uniform(*shape) * high).long(), high.to(self.device) - 1)

    def state_dict(self) -> dict[str, Any]:
        """Seeds and the exact position of every stream, as primitives and byte tensors."""
        return {"seeds": self.seeds, "streams": [g.get_state() for g in self._streams]}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], device: torch.device | str = "cpu") -> Noise:
        """Continue the streams saved by :meth:`state_dict`."""
        noise = cls(state["seeds"], device)
        for stream, saved in zip(noise._streams, state["streams"], strict=True):
            stream.set_state(saved)
        return noise


def together(drawn: Sequence[Tensor]) -> Tensor:
    """Stack what the runs drew, ``(R, ...)``; of one run without a copy."""
    return torch.stack(list(drawn)) if len(drawn) > 1 else drawn[0][None]
