"""Import the meta data of MetaD2A (Lee et al. 2021), which DiffusionNAG and EDNAG train on, into this project's layout.

Its folder holds, as :func:`torch.save` wrote them:

* ``meta_train_tasks_predictor.pt``: lists ``acc`` (percent), ``task`` (index into the task list) and the architectures,
  NAS-Bench-201 cells: ``g`` or ``graph`` (graphs of igraph, whose vertices have a ``type``: 0 input, 1 output, then the
  five operations), ``x`` (one-hot 8 x 7) or ``str`` (the benchmark's string);
* ``meta_train_task_lst.pt``: the classes of each task, numbered from 1;
* ``imgnet32bylabel.pt``: features of the images of each class, by its number from 0: ``[tensor (n, 512)]``.

Everything is read with ``weights_only``; graphs become :class:`Graph`, and igraph is not needed.
"""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ednag.core.reading import reading, regular
from ednag.core.storage import atomic_write
from ednag.predictor.features import CORESET, features_path, k_centre, save_features
from ednag.predictor.tasks import TaskDefinition, write_tasks
from ednag.spaces import NASBench201

log = logging.getLogger(__name__)

ROWS, TASKS, FEATURES = "meta_train_tasks_predictor.pt", "meta_train_task_lst.pt", "imgnet32bylabel.pt"
SOURCE, EXTRACTOR = "imagenet32", "resnet18"


class Graph:
    """Stand-in for ``igraph.Graph`` while unpickling: it keeps the types of the vertices only."""

    def __init__(self, *parts: Any, **_: Any) -> None:
        attributes = [part["type"] for part in parts if isinstance(part, dict) and "type" in part]
        self.types = [int(kind) for kind in attributes[0]] if attributes else []

    def __setstate__(self, state: object) -> None:
        """Ignore what else igraph keeps."""


def import_metad2a(source: str | Path, output: str | Path) -> Path:
    """Convert a MetaD2A folder into ``rows.npz``, ``tasks.json`` and ``features/``, as :class:`MetaData` reads them.

    All tasks are of one source. Rows carry the one accuracy there is as both validation and test accuracy.

    Args:
        source: the folder, or the file of rows in it.
        output: the new folder.

    Returns:
        the new folder.

    Raises:
        FileNotFoundError: if one of the three files is missing.
        ValueError: if one is something else.
    """
    source, output = Path(source).expanduser(), Path(output).expanduser()
    source = source.parent if source.is_file() else source
    content, classes, features = (_read(source / name) for name in (ROWS, TASKS, FEATURES))
    try:
        accuracy = np.array([float(value) for value in content["acc"]], dtype=np.float32)
        task = np.array([int(value) for value in content["task"]], dtype=np.int32)
        genes = _architectures(content)
        tasks = [_define(number, [int(label) - 1 for label in labels]) for number, labels in enumerate(classes)]
        used = sorted(set(task.tolist()))
        shots = {label: _coreset(features[label]) for label in {c for i in used for c in tasks[i].classes}}
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{source} is not in the layout of MetaD2A ({type(error).__name__}: {error})") from None
    if not len(genes) == len(accuracy) == len(task):
        raise ValueError(f"{ROWS}: {len(genes)} architectures, {len(accuracy)} accuracies and {len(task)} tasks")
    for i in used:
        path = features_path(output / "features", tasks[i].sha256, EXTRACTOR)
        save_features(path, torch.stack([shots[label] for label in tasks[i].classes]))
    arrays = {
        "genes": genes.to(torch.int8).numpy(),
        "task": task,
        "valid": accuracy,
        "test": accuracy,
        "seconds": np.full(len(task), np.nan, np.float32),
        "seed": np.zeros(len(task), np.int64),
        "space": np.array(NASBench201.name),
        "budget": np.array("{}"),
        "versions": np.array("{}"),
    }
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    atomic_write(output / "rows.npz", lambda stream: stream.write(packed.getvalue()))
    write_tasks(output / "tasks.json", NASBench201.name, tasks)
    alone = int((np.bincount(task) == 1).sum())
    if alone:
        log.warning("%d of %d tasks have one row only: nothing can be ranked within them", alone, len(used))
    return output


def _read(path: Path) -> Any:
    """Read a file of tensors, lists and graphs; no code runs."""
    if not path.exists():
        raise FileNotFoundError(f"no {path.name} in {path.parent}; a MetaD2A folder has {ROWS}, {TASKS} and {FEATURES}")
    known: list[Any] = [(Graph, name) for name in ("igraph.Graph", "igraph.graph.Graph")]
    with reading(path, "a file of MetaD2A", "fetch it again"), torch.serialization.safe_globals(known):
        return torch.load(regular(path), map_location="cpu", weights_only=True)


def _architectures(content: dict[str, Any]) -> Tensor:
    """Genes of all rows, int64 ``(n, 6)``, from the first form there is."""
    space = NASBench201()
    if "str" in content:
        return torch.stack([space.parse(text) for text in content["str"]])
    if "x" in content:
        codes = torch.stack([torch.as_tensor(x).argmax(-1) for x in content["x"]])
    else:
        codes = torch.tensor([graph.types for graph in content["g" if "g" in content else "graph"]])
    if codes.shape[1:] != (8,) or bool((codes[:, [0, 7]] != torch.tensor([0, 1])).any()):
        raise ValueError("a graph of MetaD2A has eight vertices, input first and output last")
    return space.check(codes[:, 1:7] - 2)


def _define(number: int, classes: list[int]) -> TaskDefinition:
    """Define a task; its digest is that of its classes, as its images are not here."""
    digest = hashlib.sha256(f"{SOURCE}/{classes}".encode()).hexdigest()
    return TaskDefinition(f"{SOURCE}-{number:04d}", SOURCE, tuple(classes), 32, 32, False, 0, {}, sha256=digest)


def _coreset(parts: Any) -> Tensor:
    """Choose the coreset of a class, ``(20, 512)``; the files keep a list of one tensor."""
    features = parts if isinstance(parts, Tensor) else parts[0]
    return features[k_centre(features, CORESET)].float()
