"""Samplers that ship as configurations, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from ednag.core.fingerprint import settings
from ednag.core.names import unknown
from ednag.core.shipped import CONFIGS
from ednag.samplers.base import Sampler


def preset_paths() -> dict[str, Path]:
    """List the presets: the configuration of each, by name."""
    return {file.stem: file for file in sorted(CONFIGS.glob("presets/*.yaml"))}


def preset_path(name: str) -> Path:
    """Find the configuration of a sampler preset.

    Raises:
        ValueError: if there is none of that name, listing those that exist.
    """
    known = preset_paths()
    if name not in known:
        raise ValueError(unknown("preset", name, known))
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


def preset_of(sampler: Sampler) -> str | None:
    """Name the preset whose settings a sampler has; ``None`` if it has those of none."""
    same = (name for name in preset_paths() if settings(load_preset(name)) == settings(sampler))
    return next(same, None)
