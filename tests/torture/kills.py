"""Runs that are killed at random times and then finished: they leave what an undisturbed run leaves."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from torture import cells
from torture.journal import Journal

IN_A_ROW = 5  # kills of one run before it may finish


def undisturbed(folder: Path, method: str) -> tuple[dict[str, str], float]:
    """What a run leaves that nothing disturbs, and its seconds."""
    results = folder / "undisturbed"
    shutil.rmtree(results, ignore_errors=True)
    status, seconds = cells.finish(results, method, folder / "log.txt")
    if status:
        msg = f"the undisturbed run of {method} failed: see {folder / 'log.txt'}"
        raise RuntimeError(msg)
    return cells.content(results), seconds


def kills(count: int, methods: list[str], folder: Path, journal: Journal, say: Callable[[str], None]) -> None:
    """`count` kills in groups of IN_A_ROW, each group on a run of the next method; those in the journal are not repeated."""
    folder.mkdir(parents=True, exist_ok=True)
    expected: dict[str, tuple[dict[str, str], float]] = {}
    for group in range(-(-count // IN_A_ROW)):
        key, method = f"kills {group}", methods[group % len(methods)]
        if key in journal.entries:
            continue
        if method not in expected:
            expected[method] = undisturbed(folder, method)
        files, seconds = expected[method]
        results, r = folder / "killed", random.Random(group)
        shutil.rmtree(results, ignore_errors=True)
        killed = 0
        for _ in range(min(IN_A_ROW, count - group * IN_A_ROW)):
            process = cells.start(results, method, folder / "log.txt")
            time.sleep(r.uniform(0, seconds))
            killed += cells.kill(process)
        status, _ = cells.finish(results, method, folder / "log.txt")
        wrong = cells.differences(files, cells.content(results))
        wrong += [f"exit status {status}"] if status else []
        journal.note(key, method=method, kills=killed, wrong=wrong)
        say(f"{method}: {killed} kills, {'; '.join(wrong) or 'the same files'}")


def summary(journal: Journal) -> tuple[int, list[str]]:
    """The number of kills, and what was wrong after them."""
    groups = [entry for key, entry in journal.entries.items() if key.startswith("kills ")]
    return sum(entry["kills"] for entry in groups), [wrong for entry in groups for wrong in entry["wrong"]]
