"""Shipped configurations, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from ednag.core.shipped import shipped
from ednag.samplers.base import Sampler

CONFIGS = shipped("configs")
"""Shipped configurations."""


def preset_path(name: str) -> Path:
    """Find the configuration of a sampler preset.

    Raises:
        ValueError: if there is none of that name, listing those that exist.
    """
    known = {file.stem: file for file in sorted(CONFIGS.glob("presets/*.yaml"))}
    if name not in known:
        raise ValueError(f"unknown preset {name!r}; allowed: {', '.join(known)}")
    return known[name]


def load_preset(name: str, **options: Any) -> Sampler:
    """Make the sampler of a preset.

    Args:
        name: ``default``, ``paper`` or ``released-code``.
        options: constructor arguments that differ from the preset's.

    Raises:
        ValueError: for an unknown preset.
    """
    content = yaml.safe_load(preset_path(name).read_text(encoding="utf-8"))["sampler"]
    content["init_args"] = {**content.get("init_args", {}), **options}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--sampler", type=Sampler)
    sampler: Sampler = parser.instantiate(parser.parse_object({"sampler": content})).sampler
    return sampler
