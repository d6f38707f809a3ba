"""Claims beside the records that bear them out or do not."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import methods
from benchmarks import claims
from benchmarks.claims import Claim, Outcome, Side
from benchmarks.report import cards
from benchmarks.report.frame import Row
from benchmarks.report.replication import has


@dataclass(frozen=True)
class Point:
    """Where a side stands: mean top-1 and its standard error in per cent, and mean bytes."""

    score: float
    error: float
    size: float


@dataclass(frozen=True)
class Judged:
    """One claim at one point of one network: two sides, their difference in points, and the outcome."""

    method: str
    claim: Claim
    network: str
    place: str
    better: Point
    worse: Point
    difference: float
    margin: float
    outcome: Outcome


def judged(rows: Sequence[Row], tasks: set[str]) -> Iterator[Judged]:
    """All claims on `tasks` at all points that both sides have; raises RateBenchError for a bad claims.toml."""
    for key in methods.names():
        if cards.card(key) is None:
            continue
        for claim in claims.of(key):
            if claim.task not in tasks:
                continue
            sides = [_fitting(side, claim, rows) for side in (claim.better, claim.worse)]
            meet = _at_equal_bytes if claim.at == claims.BYTES else _at_a_label
            for network, place, a, b in meet(*sides, claim.at):
                outcome = claims.judge((a.score, a.error), (b.score, b.error))
                yield Judged(key, claim, network, place, a, b, *outcome)


def _fitting(side: Side, claim: Claim, rows: Sequence[Row]) -> list[Row]:
    """The rows of one side; of several configurations that fit, the one nearest to the default."""
    fitting = [
        row
        for row in rows
        if (row.first.method, row.first.task, row.first.budget) == (side.method, claim.task, claim.budget)
        and has(row.first.config, side.config)
        and (claim.at in row.first.point or claim.at == claims.BYTES)
    ]
    if not fitting:
        return []
    nearest = min(fitting, key=lambda row: len(cards.changes(row.first.method, row.first.config))).first.config_hash
    return [row for row in fitting if row.first.config_hash == nearest]


def _point(row: Row) -> Point:
    return Point(100 * row.quality.mean, 100 * row.standard_error, row.file_bytes.mean)


def _at_a_label(better: Sequence[Row], worse: Sequence[Row], label: str) -> Iterator[tuple[str, str, Point, Point]]:
    """(network, place, sides) wherever both sides have a point with the same value of the label."""
    first, second = (
        {(row.first.network, row.first.point[label]): row for row in side if label in row.first.point}
        for side in (better, worse)
    )
    for network, value in sorted(first.keys() & second.keys()):
        sides = (_point(side[network, value]) for side in (first, second))
        yield network, f"{label} {value:g}" if isinstance(value, int | float) else f"{label} {value}", *sides


def _at_equal_bytes(better: Sequence[Row], worse: Sequence[Row], _: str) -> Iterator[tuple[str, str, Point, Point]]:
    """Each point of the better side against the worse side's curve, linear between its points over log bytes."""
    for network in sorted({row.first.network for row in better}):
        curve = sorted((_point(row) for row in worse if row.first.network == network), key=lambda p: p.size)
        for point in sorted((_point(row) for row in better if row.first.network == network), key=lambda p: -p.size):
            for low, high in itertools.pairwise(curve):
                if low.size <= point.size <= high.size and low.size < high.size:
                    share = math.log(point.size / low.size) / math.log(high.size / low.size)
                    score = (1 - share) * low.score + share * high.score
                    yield network, "equal bytes", point, Point(score, max(low.error, high.error), point.size)
                    break


def grouped(points: Sequence[Judged]) -> list[tuple[Judged, list[Judged], list[tuple[Outcome, int]]]]:
    """The points of each claim with its first one and the count of each outcome, in the order given."""
    found = []
    for _, members in itertools.groupby(points, key=lambda p: (p.method, p.claim.text, p.claim.budget)):
        own = list(members)
        counts = Counter(point.outcome for point in own)
        found.append((own[0], own, [(outcome, counts[outcome]) for outcome in get_args(Outcome) if counts[outcome]]))
    return found
