"""Whether the installed code, with the reference on this machine, gives records the fingerprints that they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from benchmarks import equivalents
from benchmarks.records import described
from benchmarks.records.rows import Row
from benchmarks.records.schema import REFERENCE, Record
from benchmarks.running import references
from benchmarks.running.cell import Cell
from methods.interface import Budget, BudgetName

__fingerprint__ = False  # compares results, makes none


def current(records: Sequence[Record]) -> dict[str, bool | None]:
    """For each record's id, whether the installed code gives it the same fingerprint; None if that is not known.

    A record that names another reference than the one on this machine is not current; that is not known before the reference
    is trained.
    """
    equivalents.rows()  # a damaged file raises here, and does not make every record unknown
    fingerprints: dict[str, str | None] = {}  # by the cell's id
    required: dict[tuple[str, str], dict[str, str] | None] = {}  # by task and network
    found: dict[str, bool | None] = {}
    for record in records:
        cell_id, place = record.id.rpartition("/")[0], (record.task, record.network)
        if cell_id not in fingerprints:
            fingerprints[cell_id] = _fingerprint(record)
        expected = fingerprints[cell_id]
        found[record.id] = None if expected is None else record.provenance.fingerprint == expected
        if found[record.id] and REFERENCE in record.provenance.data:
            if place not in required:
                required[place] = references.required(*place)
            entries = required[place]
            found[record.id] = None if entries is None else references.holds(record, entries)
    return found


def is_stale(row: Row, current: Mapping[str, bool | None]) -> bool:
    """Whether one of a row's records was measured by different code; records whose code can't be compared do not count."""
    return any(current[r.id] is False for r in row.records)


def _fingerprint(record: Record) -> str | None:
    budget = Budget(cast(BudgetName, record.budget), record.epochs, record.learning_rate)
    cell = Cell(
        record.suite, record.task, record.network, record.method, described.changes(record), budget, record.seed
    )
    try:
        return cell.fingerprint()
    except Exception:  # the method or the task no longer exists, or can't be imported
        return None
