"""Computing time of the records by method, budget and device, summed over processes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.records import Record


@dataclass(frozen=True)
class Entry:
    method: str
    budget: str
    device: str
    threads: int
    records: int
    hours: float


def ledger(records: Sequence[Record]) -> list[Entry]:
    """The entries, sorted by method, budget and device."""

    def place(r: Record) -> tuple[str, str, str, int]:
        return r.method, r.budget, r.speed.device, r.speed.threads

    entries = []
    for key, members in itertools.groupby(sorted(records, key=place), key=place):
        own = list(members)
        entries.append(Entry(*key, len(own), sum(r.wall_s * r.provenance.processes for r in own) / 3600))
    return entries
