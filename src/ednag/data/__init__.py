"""Images: data modules, files, preprocessing, augmentation.

The data modules are imported when they are first used, so that preparing an image (:mod:`ednag.data.preprocessing`)
never imports the training framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ednag.data.arrays import FashionMNIST, NumpyImages
    from ednag.data.datasets import CIFAR10, CIFAR100, Digits
    from ednag.data.fine_grained import FGVCAircraft, OxfordPets
    from ednag.data.image_folder import ImageFolder
    from ednag.data.module import ImageDataModule

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "Digits",
    "FGVCAircraft",
    "FashionMNIST",
    "ImageDataModule",
    "ImageFolder",
    "NumpyImages",
    "OxfordPets",
]

_HOMES = {
    "arrays": ("FashionMNIST", "NumpyImages"),
    "datasets": ("CIFAR10", "CIFAR100", "Digits"),
    "fine_grained": ("FGVCAircraft", "OxfordPets"),
    "image_folder": ("ImageFolder",),
    "module": ("ImageDataModule",),
}


def import_data_modules() -> None:
    """Import every data module, which gives each a short name on the command line."""
    for home in _HOMES:
        import_module(f"ednag.data.{home}")


def __getattr__(name: str) -> Any:
    """Import a data module when it is first used."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"ednag.data.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
