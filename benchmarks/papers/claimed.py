"""Judges the claims of papers by the records."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

import methods
from benchmarks.papers import claims, setting
from benchmarks.papers.claims import Claim, Claims, Observation, Outcome, Side
from benchmarks.papers.matching import changed, has
from benchmarks.papers.meeting import Meeting, Point, meetings
from benchmarks.records import described, paired
from benchmarks.records.quality import Spread, spread
from benchmarks.records.rows import Row
from methods.interface import Metric

T = TypeVar("T", "Judged", "Observed")
Items = Callable[[Row], paired.Side | None]


@dataclass(frozen=True)
class Judged:
    """One claim at one point of one network: two sides, the difference of their scores, and the outcome.

    `margin` is half the width of the difference's own 95 % interval. `is_paired` says that both sides were compared item by
    item; otherwise their errors are taken as independent. `differs` says in what the rows of all points of the claim differ
    from the paper's setting.
    """

    method: str
    claim: Claim
    metric: Metric
    network: str
    place: str
    better: Point
    worse: Point
    difference: float
    margin: float
    is_paired: bool
    outcome: Outcome
    differs: tuple[str, ...]

    @property
    def is_outside(self) -> bool:
        """Whether the difference's own interval excludes zero."""
        return abs(self.difference) > self.margin


@dataclass(frozen=True)
class Observed:
    """One observation at one point of one network: the note's mean, smallest and largest value over seeds."""

    method: str
    claim: Observation
    network: str
    place: str
    note: Spread
    outcome: Outcome
    differs: tuple[str, ...]


def judged(rows: Sequence[Row], tasks: set[str], results: Path) -> Iterator[Judged]:
    """All claims on `tasks`, at each point where both sides can be compared.

    Values of single items are read from the folder `results`. Raises RateBenchError for a bad claims.toml, and RecordError
    for values that do not match their record.
    """
    items = paired.reader(results)
    for key, known in _known():
        for claim in known.claim:
            if claim.task in tasks:
                better, worse = (_fitting(side, claim, rows, claim.at) for side in (claim.better, claim.worse))
                yield from _judged(key, claim, list(_equally_trained(claim, better, worse)), items)


def _equally_trained(claim: Claim, better: Sequence[Row], worse: Sequence[Row]) -> Iterator[Meeting]:
    """All points at which both sides can be compared, between rows that were trained for as many epochs."""
    for epochs in dict.fromkeys(row.first.epochs for row in better):
        yield from meetings(claim, *([row for row in side if row.first.epochs == epochs] for side in (better, worse)))


def _judged(key: str, claim: Claim, found: Sequence[Meeting], items: Items) -> Iterator[Judged]:
    if not found:
        return
    metric = found[0].better_row.quality.metric
    differences = [_difference(meeting, items) for meeting in found]
    outcomes = claims.outcomes([difference[:3] for difference in differences], metric.more_is_better)
    differs = setting.differences(claim.paper, [row for m in found for row in (m.better_row, *m.worse_rows)])
    for m, (difference, error, freedom, is_paired), outcome in zip(found, differences, outcomes, strict=True):
        size = paired.critical(freedom) * error, is_paired
        yield Judged(key, claim, metric, m.network, m.place, m.better, m.worse, difference, *size, outcome, differs)


def _difference(meeting: Meeting, items: Items) -> tuple[float, float, float, bool]:
    """(better − worse, its standard error, degrees of freedom, whether both sides were compared item by item)."""
    better, *curve = (items(row) for row in (meeting.better_row, *meeting.worse_rows))
    known = [side for side in curve if side is not None]
    if better and len(known) == len(curve) and {better.of} == {side.of for side in known}:
        worse = known[0] if len(known) == 1 else paired.mixed(known[0], known[1], meeting.share)
        return *paired.difference(better, worse), len(better.values) - 1, True
    error = math.hypot(meeting.better.error, meeting.worse.error)
    return meeting.better.score - meeting.worse.score, error, paired.apart(meeting.better_row), False


def observed(rows: Sequence[Row], tasks: set[str]) -> Iterator[Observed]:
    """All observations on `tasks`, at each point whose records all have the note; raises RateBenchError as `judged`."""
    for key, known in _known():
        for observation in known.observation:
            if observation.task not in tasks:
                continue
            fitting = _fitting(observation.of, observation, rows, claims.BYTES)
            differs = setting.differences(observation.paper, fitting)
            for row in fitting:
                notes = [described.number(record.notes.get(observation.note)) for record in row.records]
                if None not in notes:
                    note = spread(value for value in notes if value is not None)
                    outcome: Outcome = "supported" if note.low > observation.above else "not supported here"
                    place = described.named(row.first.point)
                    yield Observed(key, observation, row.first.network, place, note, outcome, differs)


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


@dataclass(frozen=True)
class Tests:
    """How many differences were tested: in all, item by item, with an interval without zero, and with an outcome.

    `by_chance` is the number whose interval would exclude zero if no two sides differed.
    """

    made: int
    paired: int
    outside: int
    counting: int
    by_chance: float
    level: float = claims.LEVEL


def tests(points: Sequence[Judged]) -> Tests:
    """The number of tests behind all claims."""
    return Tests(
        made=len(points),
        paired=sum(point.is_paired for point in points),
        outside=sum(point.is_outside for point in points),
        counting=sum(point.outcome != "inconclusive" for point in points),
        by_chance=claims.LEVEL * len(points),
    )


def grouped(points: Sequence[T]) -> list[tuple[T, list[T], list[tuple[Outcome, int]]]]:
    """For each claim, in the order given: its first point, all its points, and the count of each outcome."""
    found = []
    for _, members in itertools.groupby(points, key=lambda p: (p.method, p.claim.text, p.claim.budget)):
        own = list(members)
        counts = Counter(point.outcome for point in own)
        found.append((own[0], own, [(outcome, counts[outcome]) for outcome in get_args(Outcome) if counts[outcome]]))
    return found
