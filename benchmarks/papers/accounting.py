"""Numbers of papers that follow from a structure alone: compression factors, FLOPs, parameters. They need no training.

A row of `reported.toml` with `last_digit` is such a number. The module `accounting` in the method's package counts it: its
`count(row)` is this suite's own number in the unit of the row, or None if it does not count that. The module assigns
`__fingerprint__ = False`, because no result depends on it.
"""

from __future__ import annotations

from types import ModuleType
from typing import cast

import methods
from benchmarks import importing
from benchmarks.errors import in_short
from benchmarks.papers import reported
from benchmarks.papers.reported import Reported
from benchmarks.papers.verdicts import Accounting, Measured, Verdict


def judged(key: str, row: Reported) -> tuple[Measured | None, Verdict]:
    """(this suite's number for an accounting row in the paper of the method `key`, the verdict)."""
    try:
        counted = _count(key, row)
    except Exception as error:  # an error in a method's code must not stop the report
        return None, Verdict("not counted", f"the method could not count it: {in_short(error)}")
    if counted is None:
        return None, Verdict("not counted", "the method does not count it")
    return Measured(counted, 0.0), verdict(row, counted)


def verdict(row: Reported, counted: float) -> Verdict:
    """Whether a count, rounded to the last digit that the paper prints, is the printed number."""
    assert row.last_digit is not None
    units = round(counted / row.last_digit) - round(row.value / row.last_digit)
    outcome: Accounting = "accounting differs" if units else "accounting matched"
    return Verdict(outcome, row.known_gap if units else "", units * row.last_digit)


def _count(key: str, row: Reported) -> float | None:
    if reported.beside(key, "accounting.py") is None:
        return None
    name = f"{cast(ModuleType, methods.get(key)).__name__}.accounting"
    counted: float | None = importing.load(name, f"the accounting of {key!r}").count(row)
    return counted
