"""Images: data modules, files, augmentation."""

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
