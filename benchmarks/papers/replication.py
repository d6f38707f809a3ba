"""Reported rows beside the records that answer them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import methods
from benchmarks import tasks
from benchmarks.papers import reported
from benchmarks.papers.reported import Measured, Reported, Verdict
from benchmarks.report import cards
from benchmarks.report.frame import Row

# The budget nearest to a paper's own protocol is the one that answers for it.
_NEAREST = ("paper", "short", "post-training")
_READ: dict[str, Callable[[Row], float]] = {
    "top-1": lambda row: 100 * row.quality.mean,
    "error": lambda row: 100 * (1 - row.quality.mean),
    "ratio": lambda row: row.ratio,
    "size_reduction": lambda row: 100 * (1 - 1 / row.ratio),
    "bits_per_weight": lambda row: row.bits_per_weight,
    "bytes": lambda row: row.file_bytes.mean,
    "nonzero_share": lambda row: 100 * row.nonzero_share,
    "macs": lambda row: row.over_seeds(lambda r: r.counted.macs).mean,
    "flops": lambda row: 2 * row.over_seeds(lambda r: r.counted.macs).mean,
}


@dataclass(frozen=True)
class Comparison:
    """One reported number, the row that answers it (or none), and the verdict."""

    method: str
    reported: Reported
    row: Row | None
    measured: Measured | None
    verdict: Verdict


def _same(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, int | float) and isinstance(found, int | float):
        return math.isclose(wanted, found, rel_tol=1e-6)
    return bool(wanted == found)


def has(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether all of `wanted` is in `found`; numbers may differ in their type and last digit."""
    return all(name in found and _same(value, found[name]) for name, value in wanted.items())


def find(wanted: Reported, rows: Sequence[Row]) -> tuple[Row | None, str]:
    """Among a method's rows the one that answers, or the reason why none does.

    Settings that a reported row does not name are the default's where that was run; the budget is the one nearest to
    the paper's schedule.
    """
    left = list(rows)
    if not left:
        return None, "the method has no record"
    steps: tuple[tuple[Callable[[Row], bool], str], ...] = (
        (lambda row: row.first.task == wanted.task, f"no record on {wanted.task}"),
        (lambda row: row.first.network == wanted.network, f"no record of {wanted.network}"),
        (lambda row: wanted.budget in ("", row.first.budget), f"no record of the budget {wanted.budget}"),
        (lambda row: has(row.first.config, wanted.config), f"no record with {cards.named(wanted.config)}"),
        (lambda row: has(row.first.point, wanted.point), f"no record at {cards.named(wanted.point)}"),
    )
    for fits, missing in steps:
        left = [row for row in left if fits(row)]
        if not left:
            return None, missing
    return min(left, key=_distance), ""


def _distance(row: Row) -> tuple[int, int, int, str]:
    r = row.first
    budget = _NEAREST.index(r.budget) if r.budget in _NEAREST else len(_NEAREST)
    return len(cards.changes(r.method, r.config)), budget, r.index, row.key


def measured(metric: str, row: Row, reference: Row | None) -> Measured | None:
    """The metric of a row in the unit that papers use; None for one that is not measured here."""
    if metric not in _READ:
        return None
    error = 100 * row.standard_error if metric in ("top-1", "error") else 0.0
    known = None if reference is None or reported.METRICS[metric].is_rate else _READ[metric](reference)
    return Measured(_READ[metric](row), error, known)


def compare(key: str, wanted: Reported, rows: Sequence[Row], references: dict[str, Row]) -> Comparison:
    """Find, read and judge."""
    row, why = find(wanted, rows)
    found = measured(wanted.metric, row, references.get(wanted.network)) if row else None
    return Comparison(key, wanted, row, found, reported.verdict(wanted, found, why))


def comparisons(rows: Sequence[Row], references: dict[str, Row], on: set[str]) -> Iterator[Comparison]:
    """What the papers of the methods at hand report on the tasks `on`; raises RateBenchError for a bad reported.toml."""
    for key in methods.names():
        for wanted in _reported(key):
            if wanted.task in on and not wanted.context:
                own = [row for row in rows if row.first.method == (wanted.method or key)]
                yield compare(key, wanted, own, references)


def context(key: str, on: set[str]) -> list[Reported]:
    """Numbers of other methods beside the paper's own: on the tasks `on`, and on those that no suite can have."""
    shown = [row for row in _reported(key) if row.context]
    return [row for row in shown if row.task in on or row.task not in tasks.names()]


def _reported(key: str) -> list[Reported]:
    """Empty for a module that can't be imported; the page lists it among the cells not run."""
    return reported.of(key) if cards.card(key) else []
