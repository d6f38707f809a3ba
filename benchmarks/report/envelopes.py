"""The curve of each method on one network at one budget: the points of all its configurations that validation chooses.

A method with several configurations is shown at its best, and the test items play no part in the choice: of all its points,
those stay that no other one beats in both cost and validation score. The cost is the file's bytes, or another count. Where
validation prefers a smaller file to larger ones, the curve stays level up to the method's largest file.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from benchmarks.records.rows import Row
from benchmarks.report.series import Series

Chosen = Literal["only", "validation", "first"]
Cost: TypeAlias = Callable[[Row], float]


def _bytes(row: Row) -> float:
    return row.file_bytes.mean


@dataclass(frozen=True)
class Envelope:
    """One method at one budget on one network.

    `line` is its first configuration, which gives name and look; `rows` are the points, the costliest first; `others` are
    further configurations. `chosen` is how: there is only one configuration, by validation scores, or the first
    configuration because points without a validation score can't be compared. `largest` is the mean size in bytes of the
    largest file among which was chosen.
    """

    line: Series
    rows: tuple[Row, ...]
    others: tuple[Series, ...]
    chosen: Chosen
    largest: float

    @property
    def place(self) -> tuple[str, str]:
        """Network and budget."""
        return self.line.network, self.rows[0].first.budget

    @property
    def series(self) -> Series:
        """The envelope as a line of a figure."""
        if self.chosen != "validation":
            return self.line
        return replace(self.line, rows=self.rows, config=f"best of {1 + len(self.others)} configurations")


def validation(row: Row) -> float | None:
    """The mean validation score over seeds; None if a record has none."""
    scores = [r.validation.value for r in row.records if r.validation is not None]
    return statistics.fmean(scores) if len(scores) == len(row.records) else None


def envelopes(
    lines: Sequence[Series], first: Collection[tuple[str, str, str]], cost: Cost = _bytes
) -> Iterator[Envelope]:
    """All envelopes, in the order of `lines`. `first` holds the identities of first configurations.

    Points of one budget with different numbers of epochs are of different protocols: they are in different envelopes.
    """
    for _, members in itertools.groupby(sorted(lines, key=_group), key=_group):
        own = list(members)
        line = next((one for one in own if one.identity in first), own[0])
        others = tuple(one for one in own if one is not line)
        scored = [(row, validation(row)) for one in own for row in one.rows]
        known = [(row, score) for row, score in scored if score is not None]
        rows: Sequence[Row] = line.rows
        chosen: Chosen = "first" if others else "only"
        if others and len(known) == len(scored):
            rows, chosen = unbeaten(known, line.more_is_better, cost), "validation"
        among = [row for row, _ in known] if chosen == "validation" else line.rows
        yield Envelope(line, _ordered(rows, cost), others, chosen, max(map(_bytes, among)))


def labels(curves: Sequence[Envelope]) -> list[str]:
    """A name for each curve: its method, with the budget in words where those of one network and budget differ in that.

    Such curves are of different protocols: their points have other numbers of epochs.
    """
    protocols: dict[tuple[str, str], set[str]] = {}
    for one in curves:
        if one.rows[0].first.epochs != 0:  # the reference stands beside every protocol
            protocols.setdefault(one.place, set()).add(one.line.budget)
    several = {place for place, found in protocols.items() if len(found) > 1}
    return [f"{one.line.method}, {one.line.budget}" if one.place in several else one.line.method for one in curves]


def _group(line: Series) -> tuple[str, bool, str, str, str]:
    return line.network, line.fidelity == "baseline", line.method, line.rows[0].first.budget, line.budget


def _ordered(rows: Sequence[Row], cost: Cost) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: (-cost(row), row.key)))


def unbeaten(scored: Sequence[tuple[Row, float]], more_is_better: bool, cost: Cost = _bytes) -> list[Row]:
    """The rows that no other one beats in both cost and score; of equal ones the first."""
    sign, best, found = 1 if more_is_better else -1, float("-inf"), []
    for row, score in sorted(scored, key=lambda one: (cost(one[0]), -sign * one[1], one[0].key)):
        if sign * score > best:
            best = sign * score
            found.append(row)
    return found
