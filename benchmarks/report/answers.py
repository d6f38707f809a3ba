"""What a reader wants to know first, computed: the smallest file near the reference, and the best network at two ratios.

Uncompressed networks and measurements of earlier code take no part: a curve has its current points alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.records.rows import Row
from benchmarks.report.envelopes import Envelope, labels
from benchmarks.report.series import Series
from benchmarks.report.standings import AtQuality, AtRate, Standings, each, losses
from benchmarks.running import freshness
from methods.interface import Metric

RATIOS = (10, 20)
OF_PICTURES = (48, 192)  # half a bit and an eighth of a bit per pixel
LOSS = 1  # the position among the losses
UNTRAINED = "post-training"


@dataclass(frozen=True)
class Smallest:
    """The methods with the smallest file: several, if the test items do not tell them apart. Then the next one.

    `bytes` and `ratio` are of the first method, `times` is how many times the bytes the next method has, and `ends` and
    `next_ends` are as in `AtQuality`.
    """

    methods: tuple[str, ...]
    bytes: float
    ratio: float
    ends: bool
    next: str | None
    times: float | None
    next_ends: bool


@dataclass(frozen=True)
class Best:
    """The methods in front, the best score first: several, if the test items do not tell them apart. Then the next one."""

    methods: tuple[str, ...]
    score: float
    next: str | None
    next_score: float | None


@dataclass(frozen=True)
class Answer:
    """One network at one budget, in words; `within` is the loss at which `smallest` is, and `best` is by ratio.

    `smaller` and `better` are what is ahead of them without training, by the numbers alone; only at a budget with training.
    """

    network: str
    budget: str
    within: str
    smallest: Smallest | None
    best: Mapping[int, Best | None]
    smaller: Smallest | None = None
    better: Mapping[int, Best] = field(default_factory=dict)


def ratios(has_weights: bool) -> tuple[int, ...]:
    """The two ratios at which networks or, where there is no reference network, coded pictures are compared."""
    return RATIOS if has_weights else OF_PICTURES


def taking_part(
    lines: Iterable[Series], references: Mapping[str, Row], current: Mapping[str, bool | None]
) -> Iterator[Series]:
    """The lines of compressed networks, with their current rows alone; `current` is by the id of a record.

    Where there is a mean over networks, it answers for them.
    """
    lines = list(lines)
    means = [line for line in lines if line.rows[0].over]
    whole = {row.first.method for row in references.values()}
    for line in means or lines:
        rows = tuple(row for row in line.rows if line.method not in whole and not freshness.is_stale(row, current))
        if rows:
            yield replace(line, rows=rows)


def answers(results: Path, envelopes: Sequence[Envelope], references: Mapping[str, Row]) -> Iterator[Answer]:
    """One answer for every network and budget that has one, from the curves of lines that take part.

    `results` holds the values of single test items.
    """
    names = labels(envelopes)
    found = [(one, _answer(one, envelopes, references, names)) for one in each(results, envelopes)]
    untrained = {standings.network: one for standings, one in found if standings.budget == UNTRAINED}
    for standings, one in found:
        if one.smallest or any(one.best.values()):
            yield _beside(one, untrained.get(standings.network), standings.metric)


def _answer(
    standings: Standings, envelopes: Sequence[Envelope], references: Mapping[str, Row], names: Sequence[str]
) -> Answer:
    lost = losses(standings.metric, references.get(standings.network))
    within, score = lost[LOSS] if lost else ("", 0.0)
    smallest = _smallest(list(standings.at_quality(score)), names, standings.uncompressed) if lost else None
    asked = ratios(envelopes[0].rows[0].bits_per_weight is not None)
    best = {ratio: _best(list(standings.at_rate(standings.uncompressed / ratio)), names) for ratio in asked}
    return Answer(standings.network, standings.protocol, within, smallest, best)


def _beside(one: Answer, untrained: Answer | None, metric: Metric) -> Answer:
    """The answer with what is ahead of it without training."""
    if untrained is None or untrained is one:
        return one
    smaller = untrained.smallest
    if smaller and one.smallest and smaller.bytes >= one.smallest.bytes:
        smaller = None
    better = {}
    for ratio, best in one.best.items():
        other, sign = untrained.best[ratio], 1 if metric.more_is_better else -1
        if other and (best is None or sign * other.score > sign * best.score):
            better[ratio] = other
    return replace(one, smaller=smaller, better=better)


def _smallest(found: Sequence[AtQuality], names: Sequence[str], whole: int) -> Smallest | None:
    if not found:
        return None
    ahead, behind = [one for one in found if not one.better], next((one for one in found if one.better), None)
    size = ahead[0].place.bytes
    return Smallest(
        methods=tuple(names[one.envelope] for one in ahead),
        bytes=size,
        ratio=whole / size,
        ends=ahead[0].ends,
        next=names[behind.envelope] if behind else None,
        times=behind.place.bytes / size if behind else None,
        next_ends=behind is not None and behind.ends,
    )


def _best(found: Sequence[AtRate], names: Sequence[str]) -> Best | None:
    if not found:
        return None
    ahead, behind = [one for one in found if not one.better], next((one for one in found if one.better), None)
    return Best(
        methods=tuple(names[one.envelope] for one in ahead),
        score=ahead[0].place.score,
        next=names[behind.envelope] if behind else None,
        next_score=behind.place.score if behind else None,
    )
