"""What executors cost: time per call that does nothing, and many calls that sleep, against ideal.

    python experiments/executors.py --calls 200 --seconds 2 --workers 2

Sleeping calls stand for trainings on devices of their own. Prints a Markdown table: wall-clock until the first outcome (workers
are started and import what they need), milliseconds of wall-clock and of the driver's processor time per empty call after that,
and, for sleeping calls, the share of ideal (`calls * seconds / workers`) after the first outcome of each worker, with that
start, and the driver's largest memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from ednag.execution import Call, Executor, InProcess, Processes, Ray, Resources


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executors", nargs="+", default=["in_process", "processes", "ray"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--empty", type=int, default=500, help="calls that do nothing")
    parser.add_argument("--calls", type=int, default=200, help="calls that sleep; 0 for none")
    parser.add_argument("--seconds", type=float, default=2.0)
    return parser.parse_args()


def chosen(name: str, workers: int = 2) -> Executor:
    """An executor by the name that the command line has for it; other experiments ask for one here."""
    made: dict[str, Executor] = {
        "in_process": InProcess(),
        "processes": Processes(workers),
        "ray": Ray(workers=workers, resources=Resources(cpu=1)),
    }
    return made[name]


def pause(root: Path, common: Any, seconds: float) -> None:
    """Do nothing for a while."""
    time.sleep(seconds)


def timed(executor: Executor, calls: int, seconds: float) -> tuple[float, float, float]:
    """Seconds until each worker's first outcome, seconds for the rest, and processor seconds of the driver for the rest."""
    with tempfile.TemporaryDirectory() as name:
        begun = time.perf_counter()
        outcomes = executor.run((Call(str(n), pause, (seconds,)) for n in range(calls)), Path(name))
        for _ in range(executor.workers):
            next(outcomes).result()
        first, used = time.perf_counter(), time.process_time()
        for outcome in outcomes:
            outcome.result()
        return first - begun, time.perf_counter() - first, time.process_time() - used


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    print(
        "| executor | start, s | ms per empty call | driver, CPU ms | sleeping: share of ideal | with start | driver, MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in options.executors:
        executor = chosen(name, options.workers)
        start, rest, used = timed(executor, options.empty, 0.0)
        each = options.empty - executor.workers
        told = f"| {name} | {start:.1f} | {1000 * rest / each:.2f} | {1000 * used / each:.2f} | "
        if options.calls and name != "in_process":
            start, rest, _ = timed(executor, options.calls, options.seconds)
            left = (options.calls - executor.workers) * options.seconds / executor.workers
            ideal = options.calls * options.seconds / executor.workers
            told += f"{left / rest:.3f} | {ideal / (start + rest):.3f} | "
        else:
            told += "- | - | "
        print(f"{told}{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} |", flush=True)


if __name__ == "__main__":
    main()
