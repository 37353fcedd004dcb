"""The default sampler beside the baselines in spaces that can't be enumerated: the best after a number of evaluations.

    ednag fit --config fit/ofa_accuracy --run_dir runs/ofa-accuracy
    python experiments/large_spaces.py --runs 20

Problems:

* `mobilenetv3`: ImageNet accuracy by the fitted regressor, alone, below 200, 300 and 400 M multiply-accumulates, and below
  a latency on two devices (30 ms for a batch of 64 on a Titan RTX, 11.5 ms for a batch of 1 on a V100).
* `nasbench101`: validation accuracy, proposals restricted to the 30,001 cells of the sample that ships.
* `darts`: synthetic, an NK landscape over the canonical genes (each gene with two others, plus its own effect).
* `chain`: synthetic, 32 genes of four choices; each has an effect of its own and one together with the next two, so that
  the optimum is known (dynamic programming). 100 is the optimum, 0 the mean of random strings. `chain noisy` adds a fixed
  normal error to each string, of a fifth of the standard deviation of random strings; the truth of the string with the
  best score counts.

With `--ablations`, `default` without each of its parts joins, and the last column is the p-value of the last number of evaluations
(Wilcoxon's signed-rank test against `default`, paired by seed, Holm-corrected over the problem's rows).

Every sampler has the same budget of distinct architectures; seeds are consecutive. Runs are kept below --folder, so that a
call goes on where another was killed, and more runs or samplers can be added. Prints, as Markdown, mean and standard error
of the best so far, and by how many standard errors `default` is ahead of the best of the others.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from default_sampler import ABLATIONS
from ednag.benchmarks.nasbench101 import load_nasbench101
from ednag.core.archive import feasible
from ednag.core.noise import Noise
from ednag.core.storage import write_json
from ednag.costs import CostModel, Limits
from ednag.fitness import NASBench101Fitness, RegressorFitness
from ednag.fitness.constrained import ConstrainedFitness
from ednag.generation.comparison import holm, signed_rank
from ednag.samplers import (
    ArchiveDiffusion,
    Bananas,
    LocalSearch,
    OptunaTPE,
    PymooGA,
    RandomSearch,
    RegularisedEvolution,
    Sampler,
)
from ednag.samplers.problem import FitnessFunction
from ednag.spaces import DARTS, MobileNetV3, NASBench101, SearchSpace
from ednag.spaces.base import genes_of
from scaling import Landscape

AT = (50, 200, 500, 1000, 5000)

SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "default": ArchiveDiffusion,
    "local search": LocalSearch,
    "regularised evolution": RegularisedEvolution,
    "random search": RandomSearch,
    "BANANAS": Bananas,
    "pymoo": PymooGA,
    "Optuna": OptunaTPE,
    **ABLATIONS,
}

LIMITS: dict[str, dict[str, float]] = {
    "mobilenetv3": {},
    "mobilenetv3, 200 M MACs": {"max_flops": 200e6},
    "mobilenetv3, 300 M MACs": {"max_flops": 300e6},
    "mobilenetv3, 400 M MACs": {"max_flops": 400e6},
    "mobilenetv3, titan_rtx_64": {"max_latency_ms": 30.0},
    "mobilenetv3, v100_1": {"max_latency_ms": 11.5},
}


@dataclass(frozen=True)
class Setting:
    """A problem: where to search, for what, and the true worth of what was found if the scores are noisy."""

    space: SearchSpace
    fitness: FitnessFunction
    truth: Callable[[Tensor], Tensor] | None = None


class Chain(SearchSpace):
    """Strings of 32 genes of four choices."""

    name = "chain"
    cardinalities = (4,) * 32

    def identity(self, genes: Tensor) -> Tensor:
        """Every string is an architecture of its own; the code is a hash, injective on this many bits but one."""
        return self.code(genes)

    def describe(self, genes: Tensor) -> str:
        """Digits."""
        return "".join(map(str, genes.tolist()))

    def parse(self, text: str) -> Tensor:
        """Read digits."""
        return torch.tensor([int(digit) for digit in text])

    def build(self, genes: Tensor, num_classes: int, in_channels: int = 3) -> torch.nn.Module:
        """There is no network."""
        raise NotImplementedError("a synthetic space has no networks")


class ChainFitness:
    """Effects of single genes and of three neighbouring ones, scaled so that 100 is the optimum and 0 the random mean."""

    def __init__(self, space: Chain, noise: float = 0.0, seed: int = 0) -> None:
        g = torch.Generator().manual_seed(seed)
        length, k = space.num_genes, space.cardinalities[0]
        self.own = torch.randn(length, k, generator=g, dtype=torch.float64)
        self.joint = torch.randn(length - 2, k, k, k, generator=g, dtype=torch.float64)
        self.space, self.low, self.high = space, 0.0, 1.0
        random = self.truth(space.random(Noise([seed]), 4096)[0])
        self.high = self._optimum() - float(random.mean())
        self.low = float(random.mean())
        self.noise = noise * float(random.std()) / self.high * 100

    def truth(self, genes: Tensor) -> Tensor:
        """Score without error, float64 ``(*B,)``."""
        place = torch.arange(genes.shape[-1])
        joint = self.joint[place[:-2], genes[..., :-2], genes[..., 1:-1], genes[..., 2:]].sum(-1)
        total: Tensor = self.own[place, genes].sum(-1) + joint - self.low
        return total / self.high * (100 if self.high != 1.0 else 1)

    def __call__(self, genes: Tensor, valid: Tensor) -> Tensor:
        """See :class:`ednag.fitness.Fitness`."""
        code = self.space.code(genes)
        mixed = (code ^ (code >> 31)) * 7046029254386353131  # wraps; the bits of a string's error
        u = ((mixed >> 20) & (2**40 - 1)).double().add(0.5) / 2**40
        scores: Tensor = self.truth(genes) + self.noise * torch.special.ndtri(u)
        return scores.where(valid, -torch.inf)

    def _optimum(self) -> float:
        """Best sum of effects, by dynamic programming over pairs of neighbours."""
        best = self.own[0][:, None] + self.own[1]
        for place, joint in enumerate(self.joint):
            best = (best[..., None] + joint).amax(0) + self.own[place + 2]
        return float(best.max())


class KnownCells(NASBench101):
    """NAS-Bench-101, of which only the cells of a table are valid."""

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys.sort().values
        drawn = NASBench101().random(Noise([0]), 200_000)[0]
        self.bank = drawn[torch.isin(NASBench101().identity(drawn), keys)]

    def valid(self, genes: Tensor) -> Tensor:
        """Whether a cell is in the table."""
        ok = super().valid(genes)
        known: Tensor = ok & torch.isin(self.identity(genes.where(ok[..., None], 0)), self.keys)
        return known

    def random(self, noise: Noise, n: int) -> Tensor:
        """Draw among some 14,000 draws of known cells, each class of the space being equally likely."""
        return self.bank[noise.integers(torch.tensor(len(self.bank)), n)]


def settle(name: str, regressor: Path) -> Setting:
    """Make a problem by its name."""
    if name in LIMITS:
        space = MobileNetV3(width=1.0)
        latency, device = ("ofa_mobilenetv3", name.split(", ")[1]) if "_" in name else (None, None)
        model = CostModel(latency_table=latency, latency_device=device, input_shape=(3, 224, 224), num_classes=1000)
        fitness = ConstrainedFitness(RegressorFitness(regressor), Limits(**LIMITS[name]), model)
        fitness.setup(space)
        return Setting(space, fitness)
    if name == "nasbench101":
        known = NASBench101Fitness("nasbench101")
        cells = KnownCells(torch.as_tensor(load_nasbench101("nasbench101")[1]))
        known.setup(cells)
        return Setting(cells, known)
    if name == "darts":
        darts = DARTS()
        landscape = Landscape(darts, 0.0)
        return Setting(
            darts, lambda genes, valid: landscape(genes_of(darts.identity(genes), darts.cardinalities)[0], valid)
        )
    chain = Chain()
    scores = ChainFitness(chain, 0.2 if name.endswith("noisy") else 0.0)
    return Setting(chain, scores, scores.truth)


PROBLEMS = (*LIMITS, "nasbench101", "darts", "chain", "chain noisy")


def best_so_far(setting: Setting, sampler: Sampler, seeds: Sequence[int], evaluations: int) -> list[list[float | None]]:
    """Worth of the best after each number of :data:`AT`, by run; ``None`` where nothing was within the limits."""
    with torch.inference_mode():
        archive = sampler.sample(setting.space, setting.fitness, seeds, evaluations).archive.evaluated()
    rows: list[list[float | None]] = []
    for run in range(len(seeds)):
        fitness, genes = archive.fitness[run], archive.genes[run]
        row: list[float | None] = []
        for at in (at for at in AT if at <= evaluations):
            seen = fitness[: min(at, int(archive.count[run]))]
            place = int(seen.argmax()) if len(seen) else 0
            found = fitness[place] if setting.truth is None else setting.truth(genes[place])
            row.append(float(found) if len(seen) and bool(feasible(seen[place])) else None)
        rows.append(row)
    return rows


def measure(name: str, sampler: str, options: argparse.Namespace) -> dict[int, list[float | None]]:
    """Run what is missing of a problem and a sampler; the rows of all seeds asked for."""
    path = options.folder / f"{name} - {sampler}.json".replace(", ", " ").replace(" ", "_")
    known = {int(seed): row for seed, row in json.loads(path.read_text()).items()} if path.is_file() else {}
    seeds = range(options.first_seed, options.first_seed + options.runs)
    points = sum(at <= options.evaluations for at in AT)
    missing = [seed for seed in seeds if len(known.get(seed, [])) < points]
    setting = settle(name, options.regressor) if missing else None
    for begin in range(0, len(missing), options.together):
        part = missing[begin : begin + options.together]
        begun = time.process_time()
        assert setting is not None
        known |= dict(zip(part, best_so_far(setting, SAMPLERS[sampler](), part, options.evaluations), strict=True))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {str(seed): row for seed, row in sorted(known.items())})
        each = (time.process_time() - begun) / len(part) / options.evaluations * 1000
        print(f"{name}, {sampler}: {len(part)} runs, {each:.2f} ms of processor time an evaluation", flush=True)
    return {seed: known[seed][:points] for seed in seeds}


def table(name: str, found: dict[str, Tensor], shown: Sequence[int]) -> list[str]:
    """Rows of a problem: mean ± standard error, and the lead of `default` over the best of the others."""
    lines, tested = [], against_default(found) if any(one in ABLATIONS for one in found) else {}
    for sampler, values in found.items():
        spread = values.std(0) / len(values) ** 0.5
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(values.mean(0).tolist(), spread.tolist(), strict=True)]
        if tested:
            cells.append(f"{tested[sampler]:.2g}" if sampler in tested else "")
        lines.append(f"| {name} | {sampler} | {' | '.join(cells)} |")
    if "default" in found and len(found) > 1:
        own, leads = found["default"], []
        for point in range(len(shown)):
            others = [values[:, point] for sampler, values in found.items() if sampler != "default"]
            gaps = [float((own[:, point] - other).mean()) for other in others]
            worst = gaps.index(min(gaps, key=lambda gap: (math.isnan(gap), gap)))  # nan: found nothing within limits
            variance = (own[:, point].var() + others[worst].var()) / len(own)
            leads.append(f"{gaps[worst] / max(float(variance) ** 0.5, 1e-12):+.1f}")
        lines.append(f"| {name} | *lead, standard errors* | {' | '.join(leads)} |")
    return lines


def against_default(found: dict[str, Tensor]) -> dict[str, float]:
    """P-value of each other sampler's last column against that of `default`, Holm-corrected."""
    last = {
        name: values[:, -1].nan_to_num(nan=float(values.nan_to_num(math.inf).min()) - 1)
        for name, values in found.items()
    }
    others = [name for name in found if name != "default"]
    return dict(zip(others, holm([signed_rank(last["default"], last[name]) for name in others]), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS)[:4], choices=list(SAMPLERS))
    parser.add_argument("--ablations", action="store_true", help="the default sampler without each of its parts")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=1000)
    parser.add_argument("--together", type=int, default=20, help="runs that advance in one batch")
    parser.add_argument("--regressor", type=Path, default=Path("runs/ofa-accuracy/regressor.ckpt"))
    parser.add_argument("--folder", type=Path, default=Path("runs/large-spaces"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    shown = [at for at in AT if at <= options.evaluations]
    heads = ["problem", "sampler", *(f"@{at:,}" for at in shown), *(["p"] if options.ablations else [])]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name in options.problems:
        found = {
            sampler: torch.tensor(
                [[math.nan if x is None else x for x in row] for row in measure(name, sampler, options).values()],
                dtype=torch.float64,
            )
            for sampler in options.samplers + (list(ABLATIONS) if options.ablations else [])
        }
        lines += table(name, found, shown)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
