"""Options of Lightning's Trainer that it would take at any value, and fail over later."""

from __future__ import annotations

import os
from typing import Any

from jsonargparse import Namespace

LEAST: dict[str, float] = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "max_epochs": -1,
    "max_steps": -1,
    "min_epochs": 0,
    "min_steps": 0,
    "num_nodes": 1,
    "num_sanity_val_steps": -1,
    "reload_dataloaders_every_n_epochs": 0,
}
"""Least value of each."""


def check_trainer(options: Namespace) -> None:
    """Refuse values that no training can have.

    Args:
        options: of the Trainer, by name.

    Raises:
        ValueError: naming the option.
    """
    for name, least in LEAST.items():
        value = options.get(name)
        if value is not None and value < least:
            raise ValueError(f"trainer.{name} must be >= {least:g}, got {value}")
    if options.get("val_check_interval") in (0, 0.0):
        raise ValueError(
            "trainer.val_check_interval must be above 0; trainer.limit_val_batches 0 leaves validation out"
        )
    wanted = _number(options.get("devices")) if options.get("accelerator") == "cpu" else None
    most = max(8, os.cpu_count() or 1)
    if wanted is not None and not 1 <= wanted <= most:
        raise ValueError(f"trainer.devices must be 1 to {most} on this machine's CPU, got {wanted}")


def _number(value: Any) -> int | None:
    """A whole number, also one that is written as text; ``None`` for anything else."""
    try:
        return int(value) if isinstance(value, int | str) else None
    except ValueError:
        return None
