"""Finds the records that answer the reported rows of papers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

import methods
from benchmarks import tasks
from benchmarks.papers import accounting, missing, quantities, reported
from benchmarks.papers.matching import changed, has, is_named
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


def find_all(wanted: Reported, rows: Sequence[Row]) -> list[Row]:
    """The same for a reported row about several networks, whose names match a pattern: a row of each that has one."""
    networks = dict.fromkeys(row.first.network for row in rows if is_named(row.first.network, wanted.network))
    found = [find(replace(wanted, network=network), rows) for network in networks]
    return [row for row in found if row is not None]


def fitting(wanted: Reported, rows: Sequence[Row]) -> list[Row]:
    """The rows of a method that fit a reported row, whatever their point."""
    return [
        row
        for row in rows
        if row.first.task == wanted.task
        and is_named(row.first.network, wanted.network)
        and wanted.budget in ("", row.first.budget)
        and has(row.first.config, wanted.config)
    ]


def _distance(row: Row) -> tuple[int, int, int, str]:
    r = row.first
    budget = _NEAREST.index(r.budget) if r.budget in _NEAREST else len(_NEAREST)
    return changed(row), budget, r.index, row.key


def measured(quantity: Quantity, rows: Sequence[Row], references: dict[str, Row]) -> Measured | None:
    """A quantity, as the mean over rows, and, if changes are compared, of their references; None if a row has no such number.

    The standard error is that of a single row or, of several networks, the one over them.
    """
    found = [value for row in rows if (value := quantity.value(row)) is not None]
    before = [references.get(row.first.network) for row in rows]
    known = [value for row in before if row and (value := quantity.value(row)) is not None]
    complete = len(known) == len(rows)
    if not found or len(found) < len(rows) or (quantity.relative and not complete):
        return None
    error = quantity.error(rows[0])
    if quantity.relative:
        found = [100 * (value / start - 1) for value, start in zip(found, known, strict=True)]
        error *= 100 / known[0]
    if len(rows) > 1:
        error = statistics.stdev(found) / math.sqrt(len(found))
    start = statistics.fmean(known) if complete and not quantity.is_rate and not quantity.relative else None
    return Measured(statistics.fmean(found), error, start)


def compare(
    key: str, wanted: Reported, rows: Sequence[Row], references: dict[str, Row], planned: Sequence[Planned] = ()
) -> Comparison:
    """Compare one number in the paper of the method `key` with the row that answers it, if one of `rows` does."""
    if wanted.is_accounting:
        counted, judged = accounting.judged(key, wanted)
        return Comparison(key, wanted, None, counted, judged)
    method = wanted.method or key
    own = [row for row in rows if row.first.method == method]
    quantity, answering = quantities.find(wanted.task, wanted.metric), find_all(wanted, own)
    row = next(iter(answering), None)
    found = measured(quantity, answering, references) if quantity else None
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
        for wanted in reported_by(key):
            if wanted.task in on and not wanted.context:
                yield compare(key, wanted, rows, references, planned)


def context(key: str, on: set[str]) -> list[Reported]:
    """Numbers of other methods in the paper, on the tasks `on` and on tasks that are not installed."""
    shown = [row for row in reported_by(key) if row.context]
    return [row for row in shown if row.task in on or row.task not in tasks.names()]


def reported_by(key: str) -> list[Reported]:
    """The reported rows of a method; empty if its module can't be imported: the page lists that as a missing result."""
    return reported.of(key) if described.card(key) else []
