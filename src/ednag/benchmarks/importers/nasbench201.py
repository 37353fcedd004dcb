"""The official NATS-Bench topology files, converted once into a table."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ednag.benchmarks.arrays import Arrays
from ednag.benchmarks.importers.unpickling import read_pickle
from ednag.benchmarks.spelling import NATS
from ednag.spaces.nasbench201 import EDGES, OPERATIONS, NASBench201

log = logging.getLogger(__name__)


_COSTS = {"cifar10": "cifar10", "cifar100": "cifar100", "imagenet16-120": "ImageNet16-120"}


_EPOCHS = (12, 200)


_SIZES = re.compile(r"\d+(:\d+)+")
"""How the size space of NATS-Bench writes an architecture: the channels of its layers."""


_CALIBRATED_SEED = 888
"""The seed whose FLOPs and parameters count where seeds disagree (a defect of the official files)."""


def read_nats_topology(folder: Path) -> Arrays:
    """Read the official NATS-Bench topology folder (``NATS-tss-v1_0-3ffb9-simple``; Dong et al. 2021).

    One file at a time is in memory. Accuracies are means over the seeds that the benchmark trained.

    Args:
        folder: holds ``meta.pickle.pbz2`` and one ``NNNNNN.pickle.pbz2`` an architecture.

    Returns:
        the arrays of the ``nasbench201`` layout, one row an architecture in official order; accuracies in percent,
        float32, of the data sets that the files hold.

    Raises:
        FileNotFoundError: if a file is absent.
        ValueError: if a file is damaged, contains more than the format needs, or contradicts the list of
            architectures.
    """
    folder = Path(folder)
    if not (folder / "meta.pickle.pbz2").is_file():
        raise FileNotFoundError(
            f"no meta.pickle.pbz2 in {folder}; expected the unpacked folder NATS-tss-v1_0-3ffb9-simple"
        )
    names, genes = read_architectures(folder / "meta.pickle.pbz2")
    files = [folder / f"{index:06d}.pickle.pbz2" for index in range(len(names))]
    present = sum(file.is_file() for file in files)
    if present < len(files):
        first = next(file for file in files if not file.is_file())
        raise FileNotFoundError(
            f"{folder} holds {present:,} of the {len(files):,} files of the release, {first.name} is the first that lacks; "
            "unpack the whole archive"
        )
    columns: dict[str, NDArray[np.float64]] = {}
    for index, (path, name) in enumerate(zip(files, names, strict=True)):
        for key, value in read_architecture(path, index, name).items():
            if key not in columns:
                columns[key] = np.full(len(names), np.nan)
            columns[key][index] = value
        if (index + 1) % 1000 == 0 or index + 1 == len(names):
            log.info("read %d of %d architectures", index + 1, len(names))
    for key, column in columns.items():
        if np.isnan(column).any():
            raise ValueError(f"{files[int(np.isnan(column).argmax())]} has no {key}, other architectures have it")
    classes = np.unique(NASBench201().identity(torch.from_numpy(genes)).numpy(), return_inverse=True)[1]
    return {
        "ops": genes.astype(np.int8),
        "op_names": np.array(OPERATIONS),
        "edges": np.array(EDGES, dtype=np.int8),
        "unique_id": classes.astype(np.int16),
        **{key: _compact(key, column) for key, column in sorted(columns.items())},
    }


def read_architectures(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Read the list of architectures: strings in official order, and their genes ``(rows, 6)``."""
    meta = read_pickle(path)
    names = meta.get("meta_archs") if isinstance(meta, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} has no list of architectures (meta_archs)")
    if _SIZES.fullmatch(names[0]):
        raise ValueError(
            f"{path} lists networks by their widths ({names[0]}): this is NATS-Bench's size space (NATS-sss); the topology "
            "space, which is NAS-Bench-201, is in NATS-tss-v1_0-3ffb9-simple"
        )
    space = NASBench201()
    try:
        genes = torch.stack([space.parse(name) for name in names])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if len(torch.unique(genes, dim=0)) != len(names):
        raise ValueError(f"{path} lists an architecture twice")
    return names, genes.numpy()


def read_architecture(path: Path, index: int, name: str) -> dict[str, float]:
    """Read the accuracies (percent) and costs (counts) of one architecture, by their names in the table."""
    content = read_pickle(path)
    out: dict[str, float] = {}
    try:
        for epochs in _EPOCHS:
            record = content[str(epochs)]
            if record["arch_index"] != index or record["arch_str"] != name:
                raise ValueError(
                    f"it is architecture {record['arch_index']} ({record['arch_str']}), the list says {index} ({name})"
                )
            for key, (dataset, split) in NATS.items():
                if trials := _trials(record, dataset):
                    out[f"{key}/{epochs}"] = _mean_accuracy(trials, split, epochs)
        for key, dataset in _COSTS.items():
            if trials := _trials(content[str(_EPOCHS[-1])], dataset):
                out[f"{key}/flops"] = _cost(trials, "flop", path)
                out[f"{key}/params"] = _cost(trials, "params", path)
    except (KeyError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
        raise ValueError(f"{path} lacks a part of the official format ({type(error).__name__}: {error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return out


def _trials(record: Mapping[str, Any], dataset: str) -> dict[int, Mapping[str, Any]]:
    """Return the trainings of an architecture on a data set, by seed; none where it was not trained on it."""
    return {seed: record["all_results"][dataset, seed] for seed in record["dataset_seed"].get(dataset, [])}


def _mean_accuracy(trials: Mapping[int, Mapping[str, Any]], split: str, epochs: int) -> float:
    """Average the accuracy after the last epoch over seeds, percent."""
    for seed, trial in trials.items():
        if trial["epochs"] != epochs:
            raise ValueError(f"seed {seed} was trained for {trial['epochs']} epochs, expected {epochs}")
    values = [float(trial["eval_acc1es"][f"{split}@{epochs - 1}"]) for trial in trials.values()]
    if not all(0 <= value <= 100 for value in values):
        raise ValueError(f"an accuracy on {split} after {epochs} epochs is outside 0..100: {values}")
    return sum(values) / len(values)


def _cost(trials: Mapping[int, Mapping[str, Any]], name: str, path: Path) -> float:
    """Return FLOPs or parameters as a count; the files hold millions, and a few seeds a stale value."""
    values = {seed: round(float(trial[name]) * 1e6) for seed, trial in sorted(trials.items())}
    if len(set(values.values())) > 1 and _CALIBRATED_SEED not in values:
        log.warning("%s: seeds disagree on %s (%s); the last one counts", path, name, values)
    return float(values.get(_CALIBRATED_SEED, next(reversed(values.values()))))


def _compact(key: str, column: NDArray[np.float64]) -> NDArray[Any]:
    """Store counts as int32 and percentages as float32."""
    return column.astype(np.int32 if key.endswith(("/flops", "/params")) else np.float32)
