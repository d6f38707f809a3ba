"""Runs that are killed at random times and then finished: they leave what an undisturbed run leaves."""

from __future__ import annotations

import itertools
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from torture import cells
from torture.journal import Journal

IN_A_ROW = 5  # kills of one run, which goes on where it was, before it may finish


def undisturbed(folder: Path, method: str) -> tuple[dict[str, str], float]:
    """What a run leaves that nothing disturbs, and its seconds."""
    results = folder / "undisturbed"
    shutil.rmtree(results, ignore_errors=True)
    status, seconds = cells.finish(results, method, folder / "log.txt")
    if status:
        msg = f"the undisturbed run of {method} failed: see {folder / 'log.txt'}"
        raise RuntimeError(msg)
    left = cells.content(results)
    if not any(name.endswith(".rbn") for name in left):
        msg = f"{method} writes nothing at the budget `short`: choose other methods"
        raise RuntimeError(msg)
    return left, seconds


def kills(count: int, methods: list[str], folder: Path, journal: Journal, say: Callable[[str], None]) -> None:
    """`count` kills or a few more, in series on one run of the next method; series in the journal are not repeated."""
    folder.mkdir(parents=True, exist_ok=True)
    expected: dict[str, tuple[dict[str, str], float]] = {}
    for series in itertools.count():
        key, method = f"kills {series}", methods[series % len(methods)]
        if summary(journal)[0] >= count:
            break
        if key in journal.entries:
            continue
        if method not in expected:
            expected[method] = undisturbed(folder, method)
        files, seconds = expected[method]
        killed, wrong = _series(folder, method, seconds, random.Random(series))
        if not killed:  # the machine is faster than it was: kill earlier
            expected[method] = files, 0.7 * seconds
        wrong += cells.differences(files, cells.content(folder / "killed"))
        journal.note(key, method=method, kills=killed, wrong=wrong)
        say(f"{method}: {killed} kills, {'; '.join(wrong) or 'the same files'}")


def _series(folder: Path, method: str, seconds: float, r: random.Random) -> tuple[int, list[str]]:
    """Kill a run up to IN_A_ROW times, unless it ends before, and finish it; returns the number and what was wrong."""
    results, log, killed = folder / "killed", folder / "log.txt", 0
    shutil.rmtree(results, ignore_errors=True)
    while killed < IN_A_ROW:
        process = cells.start(results, method, log)
        time.sleep(r.uniform(0, seconds))
        if not cells.kill(process):
            break
        killed += 1
    status, _ = cells.finish(results, method, log)
    return killed, [f"exit status {status}"] if status else []


def summary(journal: Journal) -> tuple[int, list[str]]:
    """The number of kills, and what was wrong after them."""
    groups = [entry for key, entry in journal.entries.items() if key.startswith("kills ")]
    return sum(entry["kills"] for entry in groups), [wrong for entry in groups for wrong in entry["wrong"]]
