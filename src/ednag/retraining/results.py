"""What became of the architectures: one file for each, and a summary across them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ednag.core.reading import checked, read_json
from ednag.core.storage import write_csv, write_json

METRICS = "metrics.json"
"""Result of one architecture; its presence means that the architecture is done."""


@dataclass(frozen=True)
class Result:
    """What became of one architecture, as in ``metrics.json``.

    Attributes:
        rank: place in the report, from 1.
        architecture: the space's text.
        genes: integer genes.
        fitness: score in the report.
        status: ``finished`` or ``failed``.
        reason: why it failed.
        params: parameters.
        macs: multiply-accumulates for one image.
        val: ``top1`` and ``top5`` in percent, ``calibration_error`` in 0..1, ``nll`` in nats.
        test: the same on test images.
        epochs: epochs trained.
        seconds: spent training, without validation.
        images_per_second: training images per second.
        seed: of initial weights, and of what is random while training.
        start: metrics of validation images before training, of a network that began with inherited weights.
        label: name of a baseline; empty for what was generated.

    Examples:
        >>> result = Result(1, "64-1234-basic", [0, 1, 2, 3, 0, 0], 47.1, "finished", "", 10, 20, {"top1": 90.0}, {"top1": 89.0}, 6, 1.0, 99.0, 0)
        >>> result.test["top1"]
        89.0
    """

    rank: int
    architecture: str
    genes: list[int]
    fitness: float | None
    status: str
    reason: str
    params: int
    macs: int
    val: dict[str, float]
    test: dict[str, float]
    epochs: int
    seconds: float
    images_per_second: float
    seed: int
    start: dict[str, float] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True)
class Summary:
    """Results of all architectures, in the report's order.

    Attributes:
        results: one for each architecture.
        run_dir: the folder; architecture ``rank`` is in ``run_dir/<rank>``, three digits.
        supernets: where initial weights came from, if from supernets: their paths and digests.
        baselines: what they are to be held against, see :mod:`ednag.retraining.baselines`; in ``baseline_<label>``.
        verdict: what generation brought, in a sentence; empty if nothing tells.

    Examples:
        >>> Summary([], Path("runs/retrained")).best is None
        True
    """

    results: list[Result]
    run_dir: Path
    supernets: Sequence[Mapping[str, Any]] = ()
    baselines: Sequence[Result] = ()
    verdict: str = ""

    @property
    def best(self) -> Result | None:
        """Finished architecture with the best validation accuracy; ``None`` if all failed.

        Where nothing was validated (``limit_val_batches`` 0), it is the first of the report.
        """
        finished = [result for result in self.results if result.status == "finished"]
        return max(finished, key=lambda result: result.val.get("top1", -1.0), default=None)

    def save(self) -> None:
        """Write ``summary.json`` and ``summary.csv``."""
        origin = {"supernets": [dict(supernet) for supernet in self.supernets]} if self.supernets else {}
        beside = (
            {"baselines": [asdict(row) for row in self.baselines], "verdict": self.verdict} if self.baselines else {}
        )
        results = [asdict(result) for result in self.results]
        write_json(self.run_dir / "summary.json", {"results": results, **beside, **origin})
        write_csv(self.run_dir / "summary.csv", [_flat(result) for result in (*self.results, *self.baselines)])


def read_result(folder: Path) -> Result | None:
    """Read the result of an architecture that is done."""
    path = folder / METRICS
    if not path.exists():
        return None
    remedy = "delete it to train that architecture again"
    return read_json(path, "the result of a retraining", remedy, partial(checked, Result))


def _flat(result: Result) -> dict[str, Any]:
    """One row of ``summary.csv``."""
    row = asdict(result)
    row["genes"] = " ".join(map(str, result.genes))
    for split in ("val", "test", "start"):
        row.update({f"{split}_{name}": value for name, value in row.pop(split).items()})
    return row
