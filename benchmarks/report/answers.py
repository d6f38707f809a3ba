"""What a reader wants to know first, computed: the smallest file near the reference, and the best network at two ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.report.boards import AtLoss, Board
from benchmarks.report.envelopes import Envelope
from benchmarks.report.standings import AtRate, Place

RATIOS = (10, 20)
LOSS = 1  # the position among the losses of a board


@dataclass(frozen=True)
class Smallest:
    """The method with the smallest file, and the next one with how many times the bytes; `ends` as in `AtQuality`."""

    method: str
    bytes: float
    ratio: float
    ends: bool
    next: str | None
    times: float | None


@dataclass(frozen=True)
class Best:
    """The methods in front, the best score first: several, if the test items do not tell them apart. Then the next one."""

    methods: tuple[str, ...]
    score: float
    next: str | None
    next_score: float | None


@dataclass(frozen=True)
class Answer:
    """One network at one budget, in words; `within` is the loss at which `smallest` is, and `best` is by ratio."""

    network: str
    budget: str
    within: str
    smallest: Smallest | None
    best: Mapping[int, Best | None]


def answers(boards: Sequence[Board], envelopes: Sequence[Envelope], left_out: set[str]) -> list[Answer]:
    """One answer for every board that has one. Rows whose keys are in `left_out` do not take part."""
    made = []
    for board in boards:
        lost = board.losses[LOSS] if board.losses else None
        smallest = None if lost is None else _smallest(lost, envelopes, left_out)
        best = {ratio: _best(board.rates[ratio], envelopes, left_out) for ratio in RATIOS}
        if smallest or any(best.values()):
            budget = next(one.line.budget for one in envelopes if _is_on(board, one, left_out))
            made.append(Answer(board.network, budget, lost.words if lost else "", smallest, best))
    return made


def _is_on(board: Board, envelope: Envelope, left_out: set[str]) -> bool:
    first = envelope.rows[0].first
    here = (first.network, first.budget) == (board.network, board.budget)
    return here and any(row.key not in left_out for row in envelope.rows)


def _current(place: Place, left_out: set[str]) -> bool:
    return not {place.low.key, place.high.key} & left_out


def _smallest(lost: AtLoss, envelopes: Sequence[Envelope], left_out: set[str]) -> Smallest | None:
    found = [one for one in lost.methods if _current(one.place, left_out)]
    if not found:
        return None
    first, second = found[0], found[1] if len(found) > 1 else None
    size, names = first.place.bytes, [envelopes[one.envelope].line.method for one in found]
    whole = first.place.low.first.rate.uncompressed_bytes
    times = second.place.bytes / size if second else None
    return Smallest(names[0], size, whole / size, first.ends, names[1] if second else None, times)


def _best(known: Sequence[AtRate], envelopes: Sequence[Envelope], left_out: set[str]) -> Best | None:
    found = [one for one in known if _current(one.place, left_out)]
    if not found:
        return None
    there = {one.envelope for one in found}
    ahead = [one for one in found if not there & set(one.better)]
    behind = next((one for one in found if there & set(one.better)), None)
    return Best(
        methods=tuple(envelopes[one.envelope].line.method for one in ahead),
        score=ahead[0].place.score,
        next=envelopes[behind.envelope].line.method if behind else None,
        next_score=behind.place.score if behind else None,
    )
