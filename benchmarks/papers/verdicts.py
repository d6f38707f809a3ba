"""Judges a measurement by the number that a paper reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.papers.quantities import Quantity
from benchmarks.papers.reported import Reported

Measurement = Literal["replicated", "better", "worse", "not attempted", "not comparable"]
Accounting = Literal["accounting matched", "accounting differs", "not counted"]  # of numbers that need no training
Outcome = Measurement | Accounting


@dataclass(frozen=True)
class Measured:
    """The measurement of a reported quantity: its value and standard error, and the reference's value if there is one."""

    value: float
    standard_error: float
    reference: float | None = None


@dataclass(frozen=True)
class Verdict:
    """`delta` is measured − reported; with `of_change`, both numbers are changes from their own uncompressed network."""

    outcome: Outcome
    reason: str = ""
    delta: float | None = None
    margin: float | None = None
    of_change: bool = False
    quantity: Quantity | None = None

    @property
    def text(self) -> str:
        """The verdict in words: "1.20 points below reported", "accounting differs by 0.2"."""
        if self.outcome == "accounting differs" and self.delta is not None:
            return f"{self.outcome} by {abs(self.delta):,.10g}"
        if self.outcome != "worse" or self.delta is None or self.quantity is None:
            return self.outcome
        number, side = f"{abs(self.delta):,.{self.quantity.decimals}f}", "below" if self.delta < 0 else "above"
        unit = self.quantity.unit if self.quantity.unit in ("", "×") else f" {self.quantity.unit}"
        return f"{number}{unit} {side} reported"


def delta(reported: Reported, quantity: Quantity, measured: Measured) -> tuple[float, bool]:
    """(measured − reported, whether changes were compared).

    The reference networks of the paper and of this suite rarely score the same. If both scores are known, the changes from
    them are compared.
    """
    if quantity.is_rate or reported.baseline is None or measured.reference is None:
        return measured.value - reported.value, False
    return (measured.value - measured.reference) - (reported.value - reported.baseline), True


def verdict(reported: Reported, quantity: Quantity | None, measured: Measured | None, why: str = "") -> Verdict:
    """Judge one number. `quantity` is None if it is not measured here; `why` is the reason if `measured` is None."""
    if reported.comparable:
        return Verdict("not comparable", reported.comparable)
    if quantity is None:
        return Verdict("not comparable", f"{reported.metric} is not measured here")
    if measured is None:
        return Verdict("not attempted", why)
    if quantity.is_rate and reported.size is not None and reported.size.counts != "file":
        counted = reported.size.counts
        whose = "the paper's way of counting is not known" if counted == "unstated" else f"the paper counts {counted}"
        return Verdict("not comparable", f"{whose}; this suite counts the bytes of the whole file")
    difference, of_change = delta(reported, quantity, measured)
    margin = max(reported.tolerance or 0.0, 2 * measured.standard_error)
    outcome: Outcome
    if abs(difference) <= margin + 1e-9:  # a difference of exactly the tolerance is within it, whatever the rounding
        outcome = "replicated"
    else:
        outcome = "better" if (difference > 0) == quantity.more_is_better else "worse"
    return Verdict(outcome, reported.known_gap, difference, margin, of_change, quantity)
