"""Who is ahead on one network at one budget: at each of several ratios, and at each of several losses of quality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.records.rows import Row
from benchmarks.report.envelopes import Envelope
from benchmarks.report.standings import AtQuality, AtRate, each, losses
from benchmarks.report.view import near

RATIOS = (1, 2, 4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True)
class AtLoss:
    """What is lost, in words; the score that is left; the methods that reach it, the smallest file first."""

    words: str
    score: float
    methods: tuple[AtQuality, ...]


@dataclass(frozen=True)
class Board:
    """One network at one budget. `rates` has the methods at each of RATIOS, the best one first.

    `start` is the ratio that is shown first. Methods are numbers of envelopes on the page.
    """

    network: str
    budget: str
    rates: Mapping[int, tuple[AtRate, ...]]
    losses: tuple[AtLoss, ...]
    start: int


def boards(results: Path, envelopes: Sequence[Envelope], references: Mapping[str, Row]) -> Iterator[Board]:
    """The boards of a suite, sorted by network and budget; `results` holds the values of single test items."""

    for standings in each(results, envelopes):
        reference = references.get(standings.network)
        rates = {ratio: tuple(standings.at_rate(standings.uncompressed / ratio)) for ratio in RATIOS}
        lost = tuple(
            AtLoss(words, score, tuple(standings.at_quality(score)))
            for words, score in losses(standings.metric, reference)
        )
        yield Board(standings.network, standings.budget, rates, lost, _start(rates, reference))


def _start(rates: Mapping[int, Sequence[AtRate]], reference: Row | None) -> int:
    """The ratio with the most methods near the reference (not collapsed), the largest one of equals."""

    def seen(ratio: int) -> int:
        return sum(reference is None or near(one.place.score, reference) for one in rates[ratio])

    return max(rates, key=lambda ratio: (seen(ratio), ratio))
