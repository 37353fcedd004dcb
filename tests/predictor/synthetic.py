"""Meta data with a known signal: what is good on a task follows from what its images look like."""

from pathlib import Path

import numpy as np
import torch

from ednag.predictor.features import features_path, save_features
from ednag.predictor.tasks import TaskDefinition, write_tasks
from ednag.spaces import NASBench201

SOURCES = ("ants", "bees", "cats", "dogs", "elks", "fish", "goats", "hares")


def write_meta_data(folder: Path, per_source: int = 5, rows: int = 20, features: int = 512, seed: int = 0) -> Path:
    """Write rows, tasks and features; the accuracy is ``50 + u(genes) + 2 t v(genes)`` with ``t`` read off the features."""
    generator = torch.Generator().manual_seed(seed)
    space = NASBench201()
    effects = torch.randn(2, space.layout.dim, generator=generator)
    direction = torch.randn(features, generator=generator)
    tasks, genes, task, accuracy = [], [], [], []
    for source in SOURCES:
        for number in range(per_source):
            latent = 2 * torch.rand((), generator=generator) - 1
            classes = int(torch.randint(2, 7, (), generator=generator))
            digest = f"{len(tasks):064x}"[::-1]
            definition = TaskDefinition(
                f"{source}-{number:03d}",
                source,
                tuple(range(classes)),
                16,
                16,
                False,
                number,
                {"train": 99},
                sha256=digest,
            )
            noise = torch.randn(classes, 20, features, generator=generator)
            save_features(features_path(folder / "features", digest, "resnet18"), noise + latent * direction)
            drawn = torch.randint(0, 5, (rows, 6), generator=generator)
            hot = space.layout.encode(drawn)
            genes.append(drawn)
            task += [len(tasks)] * rows
            accuracy.append(50 + hot @ effects[0] + 2 * latent * (hot @ effects[1]))
            tasks.append(definition)
    write_tasks(folder / "tasks.json", "nasbench201", tasks)
    values = torch.cat(accuracy).numpy()
    np.savez(
        folder / "rows.npz",
        genes=torch.cat(genes).to(torch.int8).numpy(),
        task=np.array(task, np.int32),
        valid=values,
        test=values,
        seconds=np.ones_like(values),
        seed=np.zeros(len(values), np.int64),
        space="nasbench201",
        budget="{}",
        versions="{}",
    )
    return folder
