"""The official files of NAS-Bench-301 and of NAS-Bench-Suite-Zero, converted once without running what they contain."""

from __future__ import annotations

import ast
import collections
import json
import logging
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ednag.benchmarks.importers.unpickling import LARGEST, BoosterUnpickler, PickledBooster
from ednag.benchmarks.nasbench301 import READERS, check_features, genotype_text, need
from ednag.core.reading import read_bytes, read_json, reading
from ednag.core.storage import atomic_write
from ednag.spaces import DARTS
from ednag.spaces.darts_network import NODES, OPERATIONS

log = logging.getLogger(__name__)


MODEL = "surrogate_model.model"
"""The pickled booster of each member of an ensemble."""


_SEARCHED = 100_000


_DATASETS = ("cifar10", "svhn", "ninapro", "scifar100")
"""Data sets of NAS-Bench-Suite-Zero's DARTS space, as its folders are named."""


def import_nasbench301(source: str | Path, output: str | Path) -> Path:
    """Convert a released ensemble of NAS-Bench-301, ``xgb_v0.9``, ``xgb_v1.0`` or ``lgb_...``, into one file.

    Pickles are read without running them, and the models are kept in the packages' own portable formats.

    Args:
        source: the ensemble's folder: one folder a member, with ``surrogate_model.model`` and ``model_config.json``;
            or the unpacked release that holds it as ``xgb_v*``.
        output: the ``.npz`` to write, atomically.

    Returns:
        the path written.

    Raises:
        FileNotFoundError: if there is no ensemble.
        ValueError: if a file is damaged, of another kind of model or another version. Nothing is written then.
        ImportError: if the package that runs the models is not installed.
    """
    folder, output = _ensemble(Path(source)), Path(output)
    members = sorted(folder.rglob(MODEL), key=lambda path: (len(path.parent.name), str(path)))
    kinds = {_kind(member.parent) for member in members}
    if len(kinds) != 1:
        raise ValueError(f"{folder} mixes models of {', '.join(sorted(kinds))}; name the folder of one ensemble")
    kind = kinds.pop()
    arrays: dict[str, NDArray[Any]] = {"kind": np.array(kind), "members": np.array([m.parent.name for m in members])}
    for place, member in enumerate(members):
        convert = _convert_xgboost if kind == "xgb" else _convert_lightgbm
        try:
            raw = convert(_booster_state(member))
            READERS[kind](raw)
        except ImportError:
            raise
        except Exception as error:  # a hostile or damaged pickle can raise almost anything
            reason = str(error).split("Stack trace")[0].strip()[:300]
            raise ValueError(f"{member} is damaged or not a model of NAS-Bench-301: {reason}") from None
        arrays[f"model/{place:03d}"] = np.frombuffer(raw, np.uint8)
    atomic_write(output, lambda stream: np.savez_compressed(stream, **arrays))  # type: ignore[arg-type]
    log.info("wrote %s: %d models (%s)", output, len(members), kind)
    return output


def _ensemble(source: Path) -> Path:
    """Find the folder of an ensemble."""
    if not source.is_dir():
        raise FileNotFoundError(f"no folder {source}; expected the released models of NAS-Bench-301, such as xgb_v1.0")
    inside = sorted(source.glob("xgb_v*")) + sorted(source.glob("*/xgb_v*"))
    folder = inside[-1] if inside else source
    if next(folder.rglob(MODEL), None) is None:
        raise FileNotFoundError(f"no {MODEL} below {folder}; expected one folder a model, as in xgb_v1.0")
    return folder


def _kind(member: Path) -> str:
    """Kind of a member's model, as its configuration names it."""
    config = member / "model_config.json"
    if not config.exists():
        raise FileNotFoundError(f"no model_config.json in {member}: the folder is incomplete")
    what = "the configuration of a model of NAS-Bench-301"
    kind = read_json(config, what, "fetch it again", lambda content: str(content["model"]))
    if kind not in READERS:
        what = "it predicts seconds, not accuracy" if kind.endswith("_time") else "only boosted trees can be read"
        raise ValueError(f"{member} holds a model of kind {kind!r}: {what}; allowed: {', '.join(READERS)}")
    return kind


def _booster_state(member: Path) -> Mapping[str, Any]:
    """State of a pickled booster."""
    found = BoosterUnpickler(BytesIO(read_bytes(member, LARGEST))).load()
    if not isinstance(found, PickledBooster):
        raise ValueError(f"it holds a {type(found).__name__}, expected a booster")
    return found.state


def _convert_xgboost(state: Mapping[str, Any]) -> bytes:
    """Turn what XGBoost pickles into UBJSON; formats of releases before 1.6 need a package older than 3.1."""
    package = need("xgboost")
    booster = package.Booster()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the model is of an older release
        booster.__setstate__({**booster.__dict__, "handle": bytearray(state["handle"])})
    check_features(booster.num_features())
    return bytes(booster.save_raw("ubj"))


def _convert_lightgbm(state: Mapping[str, Any]) -> bytes:
    """Turn what LightGBM pickles, its text, into text that ends with the best iteration: what the benchmark runs."""
    package = need("lightgbm")
    text = state.get("handle", state.get("_handle"))
    if not isinstance(text, str):
        raise ValueError("it holds no model")
    booster = package.Booster(model_str=text)
    best = int(state.get("best_iteration") or 0)
    return str(booster.model_to_string(num_iteration=best if best > 0 else None)).encode()


def import_zc_nasbench301(source: str | Path, output: str | Path) -> Path:
    """Convert the official ``zc_nasbench301.json`` of NAS-Bench-Suite-Zero into a table.

    The file maps each data set to its genotypes, each written as a tuple of two cells of eight ``(input, operation)``
    pairs, and each genotype to ``val_accuracy`` (percent) and, for each proxy, ``{"score": ...}``. What the suite's runner
    writes is read as well: for each proxy a list of records, each with its genotype as ``arch``.

    Args:
        source: the official file; or a list that the runner wrote, or a folder of such lists, those of a data set other
            than CIFAR-10 below a folder of its name (``svhn``, ``ninapro``, ``scifar100``).
        output: the ``.npz`` to write, atomically: ``genotypes`` (rows, 22), and by data set ``D/valid/final`` and
            ``D/proxy/NAME``, NaN if the file has no value.

    Returns:
        the path written.

    Raises:
        FileNotFoundError: if the source is absent.
        ValueError: if it is damaged or of another layout. Nothing is written then.
    """
    source, output = Path(source), Path(output)
    files = sorted(source.rglob("*.json")) if source.is_dir() else [source]
    if not files or not all(file.is_file() for file in files):
        raise FileNotFoundError(f"no file {source}; expected zc_nasbench301.json, or a folder of the runner's lists")
    merged: dict[str, dict[str, dict[str, Any]]] = {}
    try:
        for file in files:
            _merge(merged, _by_dataset(_read_json(file), file))
        arrays = _table(merged)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{source} is not of the layout of zc_nasbench301.json (data set -> genotype -> val_accuracy, or the runner's "
            f"lists of records): {error}"
        ) from None
    atomic_write(output, lambda stream: np.savez_compressed(stream, **arrays))  # type: ignore[arg-type]
    log.info("wrote %s: %d genotypes", output, len(arrays["genotypes"]))
    return output


def _read_json(path: Path) -> Any:
    with reading(path, "JSON", "fetch it again"):
        return json.loads(read_bytes(path, 2**30))


def _by_dataset(content: Any, path: Path) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Give a list of records the official file's form; its data set is named by a folder, CIFAR-10 by default."""
    if not isinstance(content, list):
        return dict(content)
    dataset = next((part for part in reversed(path.parts[:-1]) if part in _DATASETS), "cifar10")
    return {dataset: {str(record["arch"]): record for record in content}}


def _merge(into: dict[str, dict[str, dict[str, Any]]], content: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Put what another file says of the same genotypes beside what is known of them."""
    for dataset, genotypes in content.items():
        for text, measured in genotypes.items():
            into.setdefault(dataset, {}).setdefault(text, {}).update(measured)


def _table(content: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, NDArray[Any]]:
    """Arrays of all data sets, one row a genotype."""
    row: dict[tuple[int, ...], int] = {}
    columns: dict[str, dict[int, float]] = collections.defaultdict(dict)
    for dataset, genotypes in content.items():
        for text, measured in genotypes.items():
            place = row.setdefault(tuple(compact_genes(text)), len(row))
            accuracy = float(measured["val_accuracy"])
            if not 0 <= accuracy <= 100:
                raise ValueError(f"val_accuracy of {text} on {dataset} is {accuracy}, expected percent")
            columns[f"{dataset}/valid/final"][place] = accuracy
            for name, value in measured.items():
                score = value.get("score") if isinstance(value, dict) else None
                if isinstance(score, int | float):
                    columns[f"{dataset}/proxy/{name}"][place] = float(score)
    if not row:
        raise ValueError("it lists no genotype")
    arrays: dict[str, NDArray[Any]] = {"genotypes": np.array(list(row), dtype=np.int8)}
    for name, values in columns.items():
        arrays[name] = np.full(len(row), np.nan, dtype=np.float32 if "/valid/" in name else np.float64)
        arrays[name][list(values)] = list(values.values())
    return arrays


def compact_genes(text: str) -> list[int]:
    """Read a genotype as NASLib writes it: ``(((input, operation), ... eight pairs), (eight pairs))``.

    Args:
        text: the tuple; operations are numbered as in :data:`ednag.spaces.darts_network.OPERATIONS`.

    Returns:
        the 22 genes.

    Raises:
        ValueError: if it is not such a genotype.
    """
    try:
        cells: Any = ast.literal_eval(text) if len(text) <= _SEARCHED else None
        normal, reduction = ([(OPERATIONS[op], node) for node, op in cell] for cell in cells)
        if any(op < 0 for cell in cells for _, op in cell):
            raise ValueError("a negative operation")
        genes: list[int] = DARTS().parse(genotype_text(normal, reduction)).tolist()
    except (ValueError, TypeError, IndexError, SyntaxError, RecursionError, MemoryError) as error:
        expected = f"(cell, cell), each of {2 * NODES} (input, operation) pairs"
        raise ValueError(f"not a genotype of NAS-Bench-301: {text[:200]!r}, expected {expected} ({error})") from None
    return genes


IMPORTS = {"nasbench301": import_nasbench301, "zc_nasbench301": import_zc_nasbench301}
"""By the name in the catalogue: what converts the official files; all write one ``.npz``."""
