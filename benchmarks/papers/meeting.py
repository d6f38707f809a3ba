"""Where the two sides of a claim meet: at the same value of a label, or at equal bytes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.papers import claims
from benchmarks.papers.claims import Claim, Side
from benchmarks.records.rows import Row


@dataclass(frozen=True)
class Point:
    """One side at one point: its mean score and standard error, in the metric's unit, and its mean bytes."""

    score: float
    error: float
    size: float


@dataclass(frozen=True)
class Meeting:
    """Two sides at one point of one network.

    `worse_rows` is one row or, for a point on a curve between two, both: the point lies at `share` of the way between them.
    """

    network: str
    place: str
    better: Point
    worse: Point
    better_row: Row
    worse_rows: tuple[Row, ...]
    share: float = 0.0


def meetings(claim: Claim, better: Sequence[Row], worse: Sequence[Row]) -> Iterator[Meeting]:
    """All points at which the rows of both sides can be compared."""
    yield from (_at_equal_bytes if claim.at == claims.BYTES else _at_a_label)(claim, better, worse)


def _point(row: Row, side: Side) -> Point:
    size = row.file_bytes.mean
    if side.counted != "file":
        size = row.over_seeds(lambda r: 4 * r.counted.nonzero).mean
        size += row.first.counted.elements / 8 if side.counted == "values and mask" else 0
    return Point(row.quality.value, row.quality.standard_error, size)


def _at_a_label(claim: Claim, better: Sequence[Row], worse: Sequence[Row]) -> Iterator[Meeting]:
    """Wherever both sides have a point with the same value of the label."""
    label = claim.at
    first, second = ({(row.first.network, row.first.point[label]): row for row in rows} for rows in (better, worse))
    for network, value in sorted(
        first.keys() & second.keys(), key=lambda known: (known[0], str(type(known[1])), known[1])
    ):
        place = f"{label} {value:g}" if isinstance(value, int | float) else f"{label} {value}"
        a, b = first[network, value], second[network, value]
        yield Meeting(network, place, _point(a, claim.better), _point(b, claim.worse), a, (b,))


def _at_equal_bytes(claim: Claim, better: Sequence[Row], worse: Sequence[Row]) -> Iterator[Meeting]:
    """Each point of the better side against the worse side's curve, interpolated linearly over log bytes.

    Between two points, the standard error of the curve is the larger of theirs.
    """
    place = (
        "equal bytes"
        if claim.worse.counted == "file"
        else f"equal bytes, counting {claim.worse.counted} of {claim.worse.method}"
    )
    for network in sorted({row.first.network for row in better}):
        points = [(_point(row, claim.better), row) for row in better if row.first.network == network]
        curve = sorted(
            ((_point(row, claim.worse), row) for row in worse if row.first.network == network), key=lambda p: p[0].size
        )
        for point, row in sorted(points, key=lambda p: -p[0].size):
            for (low, low_row), (high, high_row) in itertools.pairwise(curve):
                if low.size <= point.size <= high.size and low.size < high.size:
                    share = math.log(point.size / low.size) / math.log(high.size / low.size)
                    score = (1 - share) * low.score + share * high.score
                    other = Point(score, max(low.error, high.error), point.size)
                    yield Meeting(network, place, point, other, row, (low_row, high_row), share)
                    break
