"""What each part of the adaptation of inherited weights is worth: probe accuracy of eleven sub-networks of EfficientNet-Lite0.

    python experiments/inheritance.py FOLDER [--size 96] [--rows ROW ...]

FOLDER holds one folder of photographs a class. 256 training images calibrate, the others are probed: linear discriminant
analysis, shrinkage .3, two folds, the mean of four cuts.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import torch
from torch import Tensor

from ednag.data import ImageFolder
from ednag.fitness.discriminant import cross_validated
from ednag.spaces import PretrainedLite
from ednag.spaces.adaptation import Adaptation

CALIBRATION, MOST = 256, 1200

MEMBERS = {
    "whole": "d=2,2,3,3,4,1 e=6,6,6,6,6,6 k=3,5,3,5,5,3 head=yes",
    "no head": "d=2,2,3,3,4,1 e=6,6,6,6,6,6 k=3,5,3,5,5,3 head=no",
    "exit 6": "d=2,2,3,3,4 e=6,6,6,6,6 k=3,5,3,5,5 head=no",
    "exit 5": "d=2,2,3,3 e=6,6,6,6 k=3,5,3,5 head=no",
    "shallow": "d=1,2,2,2,2,1 e=6,6,6,6,6,6 k=3,5,3,5,5,3 head=yes",
    "width 4/6": "d=2,2,3,3,4,1 e=4,4,4,4,4,4 k=3,5,3,5,5,3 head=yes",
    "width 3/6": "d=2,2,3,3,4,1 e=3,3,3,3,3,3 k=3,5,3,5,5,3 head=yes",
    "kernel 3": "d=2,2,3,3,4,1 e=6,6,6,6,6,6 k=3,3,3,3,3,3 head=yes",
    "half": "d=2,2,2,2,2 e=3,3,3,3,3 k=3,5,3,5,5 head=no",
    "heavy": "d=1,1,2,2,2,1 e=3,3,3,3,3,3 k=3,3,3,3,3,3 head=yes",
    "tiny": "d=1,1,1,1,1 e=2,2,2,2,2 k=3,3,3,3,3 head=no",
}
"""Texts of sub-networks, without the resolution."""

STAGES = {"order": "activation", "every_layer": False}
WAYS = {
    "cut, expected importance": {"match": False, "order": "expect"},
    "cut, measured importance": {"match": False, "order": "activation"},
    "moments, expected importance": {"ridge": None, "order": "expect"},
    "moments, measured importance": {"ridge": None, "order": "activation"},
    **{
        f"and least squares of stages, ridge {ridge:g}": {**STAGES, "ridge": ridge}
        for ridge in (0.001, 0.01, 0.1, 0.3, 1)
    },
    "least squares of each layer, ridge 0.3": {"order": "activation"},
    "and channels by least squares": {},
}
"""Options of the adaptation."""


def read(root: Path, size: int, normalisation: dict[str, list[float]]) -> tuple[Tensor, Tensor, int]:
    """Training images in a random order, normalised, and their labels."""
    data = ImageFolder(root, image_size=size, test_fraction=0.2, val_fraction=0.1, **normalisation)
    data.setup()
    train = data.splits.train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:MOST]
    images, labels = data.prepare((train.pixels[order].permute(0, 3, 1, 2), train.labels[order]))
    return images, labels, data.num_classes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rows", nargs="+", choices=WAYS, default=WAYS, help="of the table")
    options = parser.parse_args()
    space = PretrainedLite(resolutions=(options.size,))
    images, labels, classes = read(options.root, options.size, space.normalisation)
    labels = labels[CALIBRATION:]
    print(f"| {len(labels)} images | {' | '.join(MEMBERS)} | CPU seconds |")
    for name in options.rows:
        begun = time.process_time()
        adaptation = Adaptation(space, images[:CALIBRATION], images[CALIBRATION:], **WAYS[name])  # type: ignore[arg-type]
        found = []
        for text in MEMBERS.values():
            network = space.build(space.parse(f"{text} r={options.size}"), classes, pretrained=False)
            features = adaptation.adapt(network)
            cuts = [cross_validated(features, labels, classes, seed=cut).argmax(1) == labels for cut in range(4)]
            found.append(f"{100 * float(torch.stack(cuts).double().mean()):.1f}")
        print(f"| {name} | {' | '.join(found)} | {time.process_time() - begun:.0f} |", flush=True)


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)
    main()
