"""The images that a network was trained on, by the configuration of its run."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl

from ednag.core.reading import read_yaml


def open_run_data(folder: Path) -> pl.LightningDataModule:
    """Make the data module of the retraining that a network's folder belongs to.

    Args:
        folder: ``RUN/001``.

    Raises:
        FileNotFoundError: if the run has no configuration.
        ValueError: if it names no images.
    """
    from jsonargparse import ArgumentParser

    from ednag.data import import_data_modules

    import_data_modules()
    places = [
        folder.parent / "config.yaml",
        folder.parent.parent / "config.yaml",
    ]  # of `generate --retrain`, the second
    config = next((path for path in places if path.exists()), None)
    if config is None:
        raise FileNotFoundError(
            f"no {places[0]}, which says what images the network was trained on: quantise within the run of `ednag retrain`"
        )
    content = read_yaml(config, "the configuration of a run", "copy it again")
    if not isinstance(content, dict) or not content.get("data"):
        raise ValueError(f"{config} names no images (data)")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(pl.LightningDataModule, "data")
    data: pl.LightningDataModule = parser.instantiate_classes(parser.parse_object({"data": content["data"]})).data
    return data
