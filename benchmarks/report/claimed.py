"""Claims beside the records that bear them out or do not."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import methods
from benchmarks import claims
from benchmarks.claims import Claim, Outcome, Side
from benchmarks.report import cards
from benchmarks.report.frame import Row
from benchmarks.report.replication import has


@dataclass(frozen=True)
class Judged:
    """One claim at one point of one network: two rows, their difference in points, and the outcome."""

    method: str
    claim: Claim
    network: str
    value: Any
    better: Row
    worse: Row
    difference: float
    margin: float
    outcome: Outcome


def _side(side: Side, claim: Claim, rows: Sequence[Row]) -> dict[tuple[str, Any], Row]:
    """(network, value of the label) -> row; of several configurations, the one nearest to the default."""
    fitting = [
        row
        for row in rows
        if (row.first.method, row.first.task, row.first.budget) == (side.method, claim.task, claim.budget)
        and has(row.first.config, side.config)
        and claim.at in row.first.point
    ]
    fitting.sort(key=lambda row: -len(cards.changes(row.first.method, row.first.config)))
    return {(row.first.network, row.first.point[claim.at]): row for row in fitting}


def judged(rows: Sequence[Row], tasks: set[str]) -> Iterator[Judged]:
    """All claims on `tasks` at all points that both sides have; raises RateBenchError for a bad claims.toml."""
    for key in methods.names():
        if cards.card(key) is None:
            continue
        for claim in claims.of(key):
            better, worse = (_side(side, claim, rows) for side in (claim.better, claim.worse))
            for place in sorted(better.keys() & worse.keys()):
                if claim.task in tasks:
                    a, b = better[place], worse[place]
                    sides = ((100 * row.quality.mean, 100 * row.standard_error) for row in (a, b))
                    yield Judged(key, claim, *place, a, b, *claims.judge(*sides))


def grouped(points: Sequence[Judged]) -> list[tuple[Judged, list[Judged], list[tuple[Outcome, int]]]]:
    """The points of each claim with its first one and the count of each outcome, in the order given."""
    found = []
    for _, members in itertools.groupby(points, key=lambda p: (p.method, p.claim.text, p.claim.budget)):
        own = list(members)
        counts = Counter(point.outcome for point in own)
        found.append((own[0], own, [(outcome, counts[outcome]) for outcome in get_args(Outcome) if counts[outcome]]))
    return found
