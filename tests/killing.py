"""Run a verb, killed at random moments of its time and resumed, in a process that has imported everything once."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path


def killed_and_resumed(
    start: list[str],
    run: Path,
    whole: Path,
    kills: int,
    seed: int,
    how: tuple[str, ...] = ("SIGKILL",),
    at: tuple[str, ...] = (),
    rooms: tuple[int, ...] = (),
) -> list[list]:
    """Run once undisturbed, and once more with kills; both to the end.

    Args:
        start: arguments of the verb, without ``--run_dir``.
        run: directory of the run that is killed.
        whole: directory of the other one.
        kills: how many times it is killed, at a moment that is uniform over the time the undisturbed one took.
        seed: of the moments and the choice of signals.
        how: names of signals; of those that ask, a second one follows at once half of the time.
        at: files of the run; before the random kills it is killed once each, as soon as that file is there.
        rooms: first of all, it is tried once each with files that may grow to so many bytes only: what a full disk does.

    Returns:
        for each attempt: the signal, and how the process ended (exit status, negative for a signal).
    """
    given = json.dumps(
        {"start": start, "run": str(run), "whole": str(whole), "kills": kills, "seed": seed, "how": how, "at": at}
        | {"rooms": rooms}
    )
    environment = {**os.environ, "EDNAG_SAVE_SECONDS": "0"}
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, given], capture_output=True, text=True, env=environment, timeout=600
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    return json.loads(ended.stdout.splitlines()[-1])


def attempt(
    args: list[str],
    after: float | None = None,
    how: str = "",
    at: Path | None = None,
    again: float | None = None,
    room: int | None = None,
) -> int:
    """Run the command line in a child, and send it a signal after some seconds, or once a file is there.

    Args:
        args: what follows ``ednag``.
        after: seconds until the signal.
        how: its name.
        at: file that is waited for before those seconds.
        again: seconds until the signal is sent a second time.
        room: bytes that each file may have.
    """
    from ednag.cli.main import main

    child = os.fork()
    if child == 0:
        os.setsid()
        if room is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # as ednag.__main__ does, before the verb begins
            signal.signal(signum, lambda signum, _: os._exit(128 + signum))
        status = 70
        try:
            sys.argv = ["ednag", *args]
            status = main()
        finally:
            sys.stdout.flush()
            os._exit(status)
    while at is not None and not at.exists():
        time.sleep(0.002)
    if after is not None:
        time.sleep(after)
        os.kill(child, getattr(signal, how))
        if again is not None:
            time.sleep(again)
            os.kill(child, getattr(signal, how))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(ProcessLookupError):  # a loader's worker, killed off before it knew its parent, would wait for ever
        os.killpg(child, signal.SIGKILL)
    return status


def drive(
    start: list[str], run: str, whole: str, kills: int, seed: int, how: list[str], at: list[str], rooms: list[int]
) -> list[list]:
    import torch

    import ednag.cli.trainer  # noqa: F401  (once for all attempts)

    torch.set_num_threads(1)
    attempt(["data", "list", "mnist"])  # what the first one pays for
    begun = time.perf_counter()
    assert attempt([*start, "--run_dir", whole]) == 0
    took = time.perf_counter() - begun
    draws = random.Random(seed)

    def line() -> list[str]:
        begun = (Path(run) / "config.yaml").exists()
        return [start[0], "--resume", run] if begun else [*start, "--run_dir", run]

    ended: list[list] = [["room", attempt(line(), room=room)] for room in rooms]
    for file in [*at, *[None] * kills]:
        name = draws.choice(how)
        after = draws.uniform(0.05, 0.9) * took if file is None else 0.0
        again = draws.choice([None, 0.0, 0.01]) if name != "SIGKILL" else None
        ended.append([name, attempt(line(), after, name, None if file is None else Path(run) / file, again)])
    ended.append(["", attempt(line())])
    return ended


if __name__ == "__main__":
    print(json.dumps(drive(**json.loads(sys.argv[1]))))  # noqa: T201
