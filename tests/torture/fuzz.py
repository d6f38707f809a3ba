"""Files with random damage under a valid checksum, each decoded in a limited process."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count as numbers
from typing import Any

from goldens.mutations import resealed

from torture.journal import Journal
from torture.judge import Judge

MOST_MEMORY, MOST_SECONDS = 512 * 2**20, 10.0
EVERY = 1000  # files between two lines of progress


def fuzz(
    files: Mapping[str, bytes],
    count: int,
    journal: Journal,
    say: Callable[[str], None],
    jobs: int = 1,
    judge: Callable[[], Judge] = Judge,
) -> None:
    """Decode `count` mutations, the i-th always being the same for the same files; those in the journal are not repeated."""
    left = iter([i for i in range(count) if f"fuzz {i}" not in journal.entries])
    done = numbers(1)

    def work(_: int) -> None:
        with judge() as own:
            for i in left:  # next() of a list's iterator is atomic
                r = random.Random(i)
                name = r.choice(sorted(files))
                journal.note(f"fuzz {i}", file=name, **own.judge(resealed(files[name], r)))
                if (tried := next(done)) % EVERY == 0:
                    say(f"{tried} files: {summary(journal)}")

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(work, range(jobs)))


def bad(entry: Mapping[str, Any]) -> str | None:
    """What is wrong about the outcome of one file, or None."""
    outcome = entry["outcome"].partition(":")[0]
    if outcome not in ("decoded", "refused"):
        return str(outcome)
    if entry["memory"] > MOST_MEMORY:
        return "above 512 MiB"
    return "above 10 s" if entry["seconds"] > MOST_SECONDS else None


def tried(journal: Journal) -> list[dict[str, Any]]:
    return [entry for key, entry in list(journal.entries.items()) if key.startswith("fuzz ")]


def summary(journal: Journal) -> str:
    entries = tried(journal)
    found = Counter(bad(entry) or entry["outcome"] for entry in entries)
    largest = max((entry.get("memory", 0) for entry in entries), default=0)
    slowest = max((entry.get("seconds", 0.0) for entry in entries), default=0.0)
    listed = ", ".join(f"{number} {what}" for what, number in sorted(found.items())) or "nothing"
    return f"{listed}; at most {largest / 2**20:.0f} MiB and {slowest:.1f} s"
