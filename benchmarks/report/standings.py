"""Methods in order at one rate and at one quality, on one network at one budget.

Between two neighbours in bytes, a curve is linear over the logarithm of bytes. From its largest point it stays level up to the
method's largest file; outside it is not known. Two methods differ at a rate if the 95 % interval of their paired difference
over the test items excludes zero. A paired difference needs the values of single items; without them, the two scores are taken
as independent. Of two methods at one quality, the one with the smaller file is better if, at that many bytes, the other one's
score is lower beyond chance, or if the other curve ends at a larger file that is good enough, too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.records import described, paired
from benchmarks.records.paired import Side
from benchmarks.records.rows import Row
from benchmarks.report.envelopes import Envelope
from methods.interface import Metric

LOSSES = (
    0.5,
    1.0,
    2.0,
)  # below the reference: points of a proportion, per cent of the reference's value of other metrics


@dataclass(frozen=True)
class Place:
    """A place on a curve: `share` of the way, over the logarithm of bytes, from the row `low` to the larger file `high`."""

    low: Row
    high: Row
    share: float

    @property
    def score(self) -> float:
        return (1 - self.share) * self.low.quality.value + self.share * self.high.quality.value

    @property
    def bytes(self) -> float:
        low, high = self.low.file_bytes.mean, self.high.file_bytes.mean
        return float(low * (high / low) ** self.share)

    @property
    def error(self) -> float:
        """The larger standard error of the two rows."""
        return max(self.low.quality.standard_error, self.high.quality.standard_error)


@dataclass(frozen=True)
class AtRate:
    """A method at one rate; `better` are the numbers of the envelopes that are better there beyond chance."""

    envelope: int
    place: Place
    better: tuple[int, ...]


@dataclass(frozen=True)
class AtQuality:
    """The smallest file of a method at one quality; with `ends`, its curve ends there, and it may be smaller still.

    `better` are the numbers of the envelopes whose smaller file the test items tell apart from this method's.
    """

    envelope: int
    place: Place
    ends: bool
    better: tuple[int, ...]


def at_bytes(curve: Envelope, size: float) -> Place | None:
    """The place on a curve at so many bytes; None outside it."""
    first = curve.rows[0]
    if first.file_bytes.mean < size <= curve.largest:
        return Place(first, first, 0.0)
    for high, low in itertools.pairwise([first, *curve.rows]):
        if low.file_bytes.mean <= size <= high.file_bytes.mean:
            between = math.log(high.file_bytes.mean / low.file_bytes.mean)
            share = math.log(size / low.file_bytes.mean) / between if between else 0.0
            return Place(low, high, share)
    return None


def at_score(rows: Sequence[Row], score: float) -> tuple[Place, bool] | None:
    """The smallest file on a curve with at least this score, and whether the curve ends there; None if no point has it."""
    metric = rows[0].quality.metric
    sign = 1 if metric.more_is_better else -1
    for low, high in itertools.pairwise([None, *reversed(rows)]):
        assert high is not None
        if sign * high.quality.value >= sign * score:
            if low is None:
                return Place(high, high, 0.0), True
            return Place(low, high, (score - low.quality.value) / (high.quality.value - low.quality.value)), False
    return None


def losses(metric: Metric, reference: Row | None) -> list[tuple[str, float]]:
    """(what is lost, in words; the score that is left) for the reference of a network; none without a reference."""
    if reference is None:
        return []
    score, sign = reference.quality.value, 1 if metric.more_is_better else -1
    if metric.kind == "proportion":
        unit = metric.difference_unit
        named = [
            (f"{loss:g} {unit.removesuffix('s') if loss == 1 else unit}".strip(), loss * metric.scale / 100)
            for loss in LOSSES
        ]
    else:
        named = [(f"{loss:g} per cent", loss / 100 * abs(score)) for loss in LOSSES]
    return [(words, score - sign * loss) for words, loss in named]


def each(results: Path, envelopes: Sequence[Envelope]) -> Iterator[Standings]:
    """The standings of every network at every budget; `results` holds the values of single test items."""

    def place(number: int) -> tuple[str, str]:
        return envelopes[number].place

    for _, members in itertools.groupby(sorted(range(len(envelopes)), key=place), key=place):
        numbers = list(members)
        yield Standings(results, [envelopes[number] for number in numbers], numbers)


class Standings:
    """The envelopes of one network at one budget, with the values of their test items. `protocol` is the budget in
    words, with its epochs if all have the same.
    """

    def __init__(self, results: Path, envelopes: Sequence[Envelope], numbers: Sequence[int]) -> None:
        """`numbers` are the positions of the envelopes on the page."""
        self._items, self._envelopes, self._numbers = paired.reader(results), envelopes, numbers
        protocols, row = {one.line.budget for one in envelopes}, envelopes[0].rows[0]
        self.network, self.budget, self.metric = row.network, row.first.budget, row.quality.metric
        self.protocol = protocols.pop() if len(protocols) == 1 else described.budget_text(self.budget, None)
        self.uncompressed = row.first.rate.uncompressed_bytes

    def at_rate(self, size: float) -> Iterator[AtRate]:
        """Every method that has this size on its curve, the best one first."""
        known = [(number, at_bytes(one, size)) for number, one in zip(self._numbers, self._envelopes, strict=True)]
        found = [(number, place) for number, place in known if place is not None]
        if not found:
            return
        differs = self._differ([place for _, place in found])
        sign = 1 if found[0][1].low.quality.metric.more_is_better else -1
        for i, (number, place) in sorted(enumerate(found), key=lambda one: -sign * one[1][1].score):
            better = (
                other
                for j, (other, there) in enumerate(found)
                if differs[i, j] and sign * there.score > sign * place.score
            )
            yield AtRate(number, place, tuple(better))

    def at_quality(self, score: float) -> Iterator[AtQuality]:
        """Every method that reaches this score, the smallest file first."""
        known = [
            (number, one, at_score(one.rows, score)) for number, one in zip(self._numbers, self._envelopes, strict=True)
        ]
        found = [(number, one, *place) for number, one, place in known if place is not None]
        found.sort(key=lambda one: one[2].bytes)
        for i, (number, one, place, ends) in enumerate(found):
            better = (
                other
                for other, _, there, _ in found[:i]  # a curve that ends here was not measured with fewer bytes
                if (there.bytes < place.bytes if ends else self._is_better(there, one))
            )
            yield AtQuality(number, place, ends, tuple(better))

    def _is_better(self, place: Place, curve: Envelope) -> bool:
        """Whether a curve is worse than a place at its bytes, beyond chance.

        The curve's smallest file stands for what is smaller than that.
        """
        other = at_bytes(curve, place.bytes) or Place(curve.rows[-1], curve.rows[-1], 0.0)
        sign = 1 if place.low.quality.metric.more_is_better else -1
        return sign * place.score > sign * other.score and bool(self._differ([place, other])[0, 1])

    def _differ(self, places: Sequence[Place]) -> npt.NDArray[np.bool_]:
        """(P, P): whether the 95 % interval of the difference of two places excludes zero."""
        scores, errors = (np.array([getattr(place, name) for place in places]) for name in ("score", "error"))
        freedom = paired.apart(places[0].low)
        size = paired.critical(freedom) * np.hypot(errors[:, None], errors)
        found: npt.NDArray[np.bool_] = np.abs(scores[:, None] - scores) > size
        sides = [self._side(place) for place in places]
        for items in {side.of for side in sides if side is not None}:
            own = [(i, side) for i, side in enumerate(sides) if side is not None and side.of == items]
            chosen = [i for i, _ in own]
            found[np.ix_(chosen, chosen)] = paired.significant([side for _, side in own])
        return found

    def _side(self, place: Place) -> Side | None:
        low, high = (self._items(row) for row in (place.low, place.high))
        return None if low is None or high is None or low.of != high.of else paired.mixed(low, high, place.share)
