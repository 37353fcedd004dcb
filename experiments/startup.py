"""Start-up of the command line: CPU seconds beside those of importing torch and Lightning, in one run.

    python experiments/startup.py

Every command runs --repeats times, in turn with the others, and its least CPU time (user and system, of the child
processes) counts: other work on the machine only adds. Bounds are those the project holds itself to.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

TORCH, LIGHTNING = "import torch", "import lightning.pytorch"
BOUNDS: list[tuple[list[str], str, float]] = [
    (["--help"], TORCH, 0.5),
    (["--version"], TORCH, 0.5),
    (["configs"], TORCH, 0.5),
    (["data", "list"], TORCH, 0.5),
    (["generate", "--help"], LIGHTNING, 1.3),
    (["retrain", "--help"], LIGHTNING, 1.3),
]
"""Words after `ednag`, what they are measured against, and the largest ratio allowed."""


def cpu_seconds(command: list[str]) -> float:
    """CPU seconds of a command and what it starts."""
    before = os.times()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    commands = {code: ["-c", code] for code in ("pass", TORCH, LIGHTNING, "import ednag")}
    commands |= {"ednag " + " ".join(words): ["-m", "ednag", *words] for words, _, _ in BOUNDS}
    least = dict.fromkeys(commands, float("inf"))
    for _ in range(repeats):
        for name, command in commands.items():
            least[name] = min(least[name], cpu_seconds(command))
    for name in ("pass", TORCH, LIGHTNING, "import ednag"):
        print(f"{name:<26}{least[name]:8.2f} s")
    missed = 0
    for words, base, bound in BOUNDS:
        name = "ednag " + " ".join(words)
        ratio = least[name] / least[base]
        missed += ratio > bound
        print(f"{name:<26}{least[name]:8.2f} s   {ratio:5.2f} x {base} (at most {bound})")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
