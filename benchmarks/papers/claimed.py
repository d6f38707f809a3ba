"""Judges the claims of papers by the records."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args

import methods
from benchmarks.papers import claims
from benchmarks.papers.claims import Claim, Claims, Observation, Outcome, Side
from benchmarks.papers.matching import changed, has
from benchmarks.records import described
from benchmarks.records.quality import Spread, spread
from benchmarks.records.rows import Row
from methods.interface import Metric

T = TypeVar("T", "Judged", "Observed")


@dataclass(frozen=True)
class Point:
    """One side at one point: its mean score and standard error, in the metric's unit, and its mean bytes."""

    score: float
    error: float
    size: float


@dataclass(frozen=True)
class Judged:
    """One claim at one point of one network: two sides, the difference of their scores, and the outcome."""

    method: str
    claim: Claim
    metric: Metric
    network: str
    place: str
    better: Point
    worse: Point
    difference: float
    margin: float
    outcome: Outcome


@dataclass(frozen=True)
class Observed:
    """One observation at one point of one network: the note's mean, smallest and largest value over seeds."""

    method: str
    claim: Observation
    network: str
    place: str
    note: Spread
    outcome: Outcome


def judged(rows: Sequence[Row], tasks: set[str]) -> Iterator[Judged]:
    """All claims on `tasks`, at each point where both sides can be compared; raises RateBenchError for a bad claims.toml."""
    for key, known in _known():
        for claim in known.claim:
            if claim.task not in tasks:
                continue
            better, worse = (_fitting(side, claim, rows, claim.at) for side in (claim.better, claim.worse))
            meet = _at_equal_bytes if claim.at == claims.BYTES else _at_a_label
            for network, place, a, b in meet(claim, better, worse):
                metric = better[0].quality.metric
                outcome = claims.judge((a.score, a.error), (b.score, b.error), metric.more_is_better)
                yield Judged(key, claim, metric, network, place, a, b, *outcome)


def observed(rows: Sequence[Row], tasks: set[str]) -> Iterator[Observed]:
    """All observations on `tasks`, at each point whose records all have the note; errors as in `judged`."""
    for key, known in _known():
        for observation in known.observation:
            if observation.task not in tasks:
                continue
            for row in _fitting(observation.of, observation, rows, claims.BYTES):
                notes = [described.number(record.notes.get(observation.note)) for record in row.records]
                if None not in notes:
                    note = spread(value for value in notes if value is not None)
                    outcome: Outcome = "supported" if note.low > observation.above else "not supported"
                    place = described.named(row.first.point)
                    yield Observed(key, observation, row.first.network, place, note, outcome)


def _known() -> Iterator[tuple[str, Claims]]:
    yield from ((key, claims.of(key)) for key in methods.names() if described.card(key) is not None)


def _fitting(side: Side, claim: Claim | Observation, rows: Sequence[Row], at: str) -> list[Row]:
    """The rows of one side; if several configurations fit, those of the one with the fewest changed settings."""
    fitting = [
        row
        for row in rows
        if (row.first.method, row.first.task, row.first.budget) == (side.method, claim.task, claim.budget)
        and has(row.first.config, side.config)
        and (at == claims.BYTES or isinstance(row.first.point.get(at), str | int | float))
    ]
    if not fitting:
        return []
    nearest = min(fitting, key=changed).first.config_hash
    return [row for row in fitting if row.first.config_hash == nearest]


def _point(row: Row, side: Side) -> Point:
    size = row.file_bytes.mean
    if side.counted != "file":
        size = row.over_seeds(lambda r: 4 * r.counted.nonzero).mean
        size += row.first.counted.elements / 8 if side.counted == "values and mask" else 0
    return Point(row.quality.value, row.quality.standard_error, size)


def _at_a_label(claim: Claim, better: Sequence[Row], worse: Sequence[Row]) -> Iterator[tuple[str, str, Point, Point]]:
    """(network, place, sides) wherever both sides have a point with the same value of the label."""
    label = claim.at
    first, second = (
        {(row.first.network, row.first.point[label]): _point(row, side) for row in rows}
        for rows, side in ((better, claim.better), (worse, claim.worse))
    )
    for network, value in sorted(
        first.keys() & second.keys(), key=lambda known: (known[0], str(type(known[1])), known[1])
    ):
        place = f"{label} {value:g}" if isinstance(value, int | float) else f"{label} {value}"
        yield network, place, first[network, value], second[network, value]


def _at_equal_bytes(
    claim: Claim, better: Sequence[Row], worse: Sequence[Row]
) -> Iterator[tuple[str, str, Point, Point]]:
    """Each point of the better side against the worse side's curve, interpolated linearly over log bytes."""
    place = (
        "equal bytes"
        if claim.worse.counted == "file"
        else f"equal bytes, counting {claim.worse.counted} of {claim.worse.method}"
    )
    for network in sorted({row.first.network for row in better}):
        points = [_point(row, claim.better) for row in better if row.first.network == network]
        curve = sorted(
            (_point(row, claim.worse) for row in worse if row.first.network == network), key=lambda p: p.size
        )
        for point in sorted(points, key=lambda p: -p.size):
            for low, high in itertools.pairwise(curve):
                if low.size <= point.size <= high.size and low.size < high.size:
                    share = math.log(point.size / low.size) / math.log(high.size / low.size)
                    score = (1 - share) * low.score + share * high.score
                    yield network, place, point, Point(score, max(low.error, high.error), point.size)
                    break


def grouped(points: Sequence[T]) -> list[tuple[T, list[T], list[tuple[Outcome, int]]]]:
    """For each claim, in the order given: its first point, all its points, and the count of each outcome."""
    found = []
    for _, members in itertools.groupby(points, key=lambda p: (p.method, p.claim.text, p.claim.budget)):
        own = list(members)
        counts = Counter(point.outcome for point in own)
        found.append((own[0], own, [(outcome, counts[outcome]) for outcome in get_args(Outcome) if counts[outcome]]))
    return found
