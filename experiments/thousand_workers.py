"""What the driver costs with a thousand workers: its processor time an evaluation, as the archive grows.

    python experiments/thousand_workers.py --sampler default --evaluations 5000
    python experiments/thousand_workers.py --sampler evolution --evaluations 100000

The space is MobileNetV3, the fitness an NK landscape (`experiments/scaling.py`) whose own time is left out, and workers take
time by a simulated clock (`experiments/many_workers.py`), so that nothing but the search runs. Prints a row for each tenth of the
evaluations: processor time an evaluation in that tenth, of which the archive's (adding, looking up), the time to fit the surrogate, and
the peak memory. The archive's is measured by wrapping its methods, so it has their overhead. `--seconds` ends it early.
"""

from __future__ import annotations

import argparse
import functools
import resource
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ednag.core.archive import Archive
from ednag.samplers import ArchiveDiffusion, GaussianProcess, RandomSearch, RegularisedEvolution, Sampler
from ednag.samplers.asynchronous import Asynchronous
from ednag.samplers.base import State
from ednag.spaces import MobileNetV3
from many_workers import Clock
from scaling import Landscape

SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "default": ArchiveDiffusion,
    "evolution": RegularisedEvolution,
    "random": RandomSearch,
}


class Enough(Exception):  # noqa: N818
    """The time is up."""


def timed(owner: type, name: str, spent: Counter[str], what: str) -> None:
    """Count the processor time of a method."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def wrapper(*of: Any, **named: Any) -> Any:
        begun = time.process_time()
        try:
            return method(*of, **named)
        finally:
            spent[what] += time.process_time() - begun

    setattr(owner, name, wrapper)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sampler", default="default", choices=list(SAMPLERS))
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--evaluations", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=600.0, help="processor time at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    spent: Counter[str] = Counter()
    timed(Archive, "add", spent, "archive")
    timed(Archive, "find", spent, "archive")
    timed(GaussianProcess, "fit", spent, "surrogate")
    timed(Landscape, "__call__", spent, "fitness")
    space = MobileNetV3()
    fitness, clock = Landscape(space, 0.0), Clock(options.workers, 0.5, 0)
    sampler = SAMPLERS[options.sampler]()
    start = begun = time.process_time()
    done, block = 0, max(options.evaluations // 10, 1)
    print(
        "| evaluations | ms an evaluation | archive | surrogate fits | best | peak memory, MiB |\n|---|---|---|---|---|---|"
    )

    def heard(state: State, genes: Tensor, values: Tensor) -> None:
        nonlocal begun, done
        count, now = int(state.archive.count), time.process_time()
        over = now - start > options.seconds
        if (count - done < block and not over) or count == done:
            return
        each = 1000 / (count - done)
        own = now - begun - spent["fitness"]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"| {count} | {own * each:.2f} | {spent['archive'] * each:.2f} | {spent['surrogate'] * each:.2f} | "
            f"{float(state.archive.fitness.max()):.3f} | {memory:.0f} |",
            flush=True,
        )
        spent.clear()
        begun, done = time.process_time(), count
        if over:
            raise Enough

    search = Asynchronous(sampler, sampler.init(space, [0]), fitness, options.evaluations, after_round=heard)
    try:
        search.run(clock.measure)
    except Enough:
        print(f"\nended after {options.seconds:.0f} s")


if __name__ == "__main__":
    main()
