"""Finds the records that answer the reported rows of papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import methods
from benchmarks import tasks
from benchmarks.papers import accounting, missing, quantities, reported
from benchmarks.papers.matching import changed, has
from benchmarks.papers.missing import Planned
from benchmarks.papers.quantities import Quantity
from benchmarks.papers.reported import Reported
from benchmarks.papers.verdicts import Measured, Verdict, verdict
from benchmarks.records import described
from benchmarks.records.rows import Row

# Records at the budget nearest to a paper's own protocol answer its rows.
_NEAREST = ("paper", "short", "post-training")


@dataclass(frozen=True)
class Comparison:
    """One reported number, the row that answers it (or none), and the verdict."""

    method: str
    reported: Reported
    row: Row | None
    measured: Measured | None
    verdict: Verdict


def find(wanted: Reported, rows: Sequence[Row]) -> Row | None:
    """The row of a method that answers a reported row, or None.

    If several rows match, the one with the fewest changed settings answers, then the one whose budget is nearest to the
    paper's schedule.
    """
    left = [row for row in fitting(wanted, rows) if has(row.first.point, wanted.point)]
    return min(left, key=_distance, default=None)


def fitting(wanted: Reported, rows: Sequence[Row]) -> list[Row]:
    """The rows of a method that fit a reported row, whatever their point."""
    return [
        row
        for row in rows
        if (row.first.task, row.first.network) == (wanted.task, wanted.network)
        and wanted.budget in ("", row.first.budget)
        and has(row.first.config, wanted.config)
    ]


def _distance(row: Row) -> tuple[int, int, int, str]:
    r = row.first
    budget = _NEAREST.index(r.budget) if r.budget in _NEAREST else len(_NEAREST)
    return changed(row), budget, r.index, row.key


def measured(quantity: Quantity, row: Row, reference: Row | None) -> Measured | None:
    """A quantity of a row and, if changes are compared, of the reference; None if the row has no such number."""
    found = quantity.value(row)
    if found is None:
        return None
    known = None if reference is None or quantity.is_rate else quantity.value(reference)
    return Measured(found, quantity.error(row), known)


def compare(
    key: str, wanted: Reported, rows: Sequence[Row], references: dict[str, Row], planned: Sequence[Planned] = ()
) -> Comparison:
    """Compare one number in the paper of the method `key` with the row that answers it, if one of `rows` does."""
    if wanted.is_accounting:
        counted, judged = accounting.judged(key, wanted)
        return Comparison(key, wanted, None, counted, judged)
    method = wanted.method or key
    own = [row for row in rows if row.first.method == method]
    quantity, row = quantities.find(wanted.task, wanted.metric), find(wanted, own)
    found = measured(quantity, row, references.get(wanted.network)) if quantity and row else None
    if row:
        why = f"the record has no {wanted.metric}"
    else:
        why = missing.reason(wanted, method, fitting(wanted, own), planned)
    return Comparison(key, wanted, row, found, verdict(wanted, quantity, found, why))


def comparisons(
    rows: Sequence[Row], references: dict[str, Row], on: set[str], planned: Sequence[Planned] = ()
) -> Iterator[Comparison]:
    """The comparisons for all installed methods on the tasks `on`; raises RateBenchError for a bad reported.toml.

    `planned` are the cells of the suite, which numbers without a record are looked up in.
    """
    for key in methods.names():
        for wanted in _reported(key):
            if wanted.task in on and not wanted.context:
                yield compare(key, wanted, rows, references, planned)


def context(key: str, on: set[str]) -> list[Reported]:
    """Numbers of other methods in the paper, on the tasks `on` and on tasks that are not installed."""
    shown = [row for row in _reported(key) if row.context]
    return [row for row in shown if row.task in on or row.task not in tasks.names()]


def _reported(key: str) -> list[Reported]:
    """The reported rows of a method; empty if its module can't be imported: the page lists that as a missing result."""
    return reported.of(key) if described.card(key) else []
