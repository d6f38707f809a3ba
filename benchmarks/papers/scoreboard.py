"""How many numbers and claims of each paper hold here: verdicts counted by paper, zeros included."""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import methods
from benchmarks.papers import claims
from benchmarks.papers.answers import Comparison
from benchmarks.papers.claimed import Judged, Observed
from benchmarks.papers.verdicts import Accounting, Measurement
from benchmarks.records import described

MEASURED: tuple[Measurement, ...] = typing.get_args(Measurement)
COUNTED: tuple[Accounting, ...] = typing.get_args(Accounting)
CLAIMED: tuple[claims.Outcome, ...] = typing.get_args(claims.Outcome)


@dataclass(frozen=True)
class Line:
    """One paper, or the sum of all: the counts of its measured numbers, of its accounting numbers and of tests of its claims.

    Each has one count for each outcome, in the order of MEASURED, COUNTED and CLAIMED.
    """

    method: str
    fidelity: str
    measured: tuple[int, ...]
    counted: tuple[int, ...]
    claimed: tuple[int, ...]


@dataclass(frozen=True)
class Scoreboard:
    lines: Sequence[Line]
    total: Line

    @property
    def replicated(self) -> str:
        """How many results of papers are replicated, in words; "" without a result."""
        results, replicated = sum(self.total.measured), self.total.measured[MEASURED.index("replicated")]
        if not results:
            return ""
        if results == 1:
            return f"The one reported result is {'' if replicated else 'not '}replicated."
        share = f"{replicated:,} of the" if replicated else "None of the"
        rebuilt = sum(
            line.measured[MEASURED.index("replicated")] for line in self.lines if line.fidelity == "reconstruction"
        )
        whose = (
            "" if not rebuilt else ", by a reconstruction" if replicated == 1 else f", {rebuilt:,} by reconstructions"
        )
        return f"{share} {results:,} reported results {'are' if replicated > 1 else 'is'} replicated{whose}."

    @property
    def sentences(self) -> str:
        """The totals in words, the replicated results first."""
        by_outcome = dict(zip(MEASURED, self.total.measured, strict=True))
        counted, matched = sum(self.total.counted), self.total.counted[COUNTED.index("accounting matched")]
        said = []
        if self.replicated:
            others = ", ".join(
                f"{count:,} {outcome}" for outcome, count in by_outcome.items() if count and outcome != "replicated"
            )
            said.append(f"{self.replicated[:-1]}: {others}." if others else self.replicated)
        if counted:
            said.append(
                f"Of {counted:,} reported sizes and costs that need no training, {matched:,} match to the last digit."
            )
        return " ".join(said) or "No paper reports a number on this suite's task."


def scoreboard(comparisons: Sequence[Comparison], tests: Sequence[Judged | Observed]) -> Scoreboard:
    """One line for each installed method of a paper, in the order of their names, and their sum.

    A baseline has one if its own paper's numbers or claims are compared.
    """
    known = {*(c.method for c in comparisons), *(test.method for test in tests)}
    lines = []
    for key in methods.names():
        card = described.card(key)
        if card and (card.fidelity != "baseline" or key in known):
            own = [c for c in comparisons if c.method == key]
            lines.append(_line(key, card.fidelity, own, [test for test in tests if test.method == key]))
    return Scoreboard(lines, _line("all", "", comparisons, tests))


def _line(method: str, fidelity: str, comparisons: Sequence[Comparison], tests: Sequence[Judged | Observed]) -> Line:
    verdicts = Counter(c.verdict.outcome for c in comparisons)
    outcomes = Counter(test.outcome for test in tests)
    return Line(
        method,
        fidelity,
        tuple(verdicts[outcome] for outcome in MEASURED),
        tuple(verdicts[outcome] for outcome in COUNTED),
        tuple(outcomes[outcome] for outcome in CLAIMED),
    )
