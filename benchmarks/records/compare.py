"""Compares two snapshots of a suite: added, removed and changed records."""

from __future__ import annotations

import io
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import unpacking
from benchmarks.errors import RateBenchError
from benchmarks.records import folders, history, items
from benchmarks.records.schema import Record
from benchmarks.records.snapshot import DIGITS, snapshot

RESULTS = "results"  # the folder of records at a revision


@dataclass(frozen=True)
class Difference:
    """The records in one snapshot only (`gone`, `new`), those that differ in bytes or scores, and the number of equal ones.

    The values of single test items are scores, too. What only one of two records has does not count as a difference.
    """

    before: str
    after: str
    gone: list[Record]
    new: list[Record]
    changed: list[tuple[Record, Record]]
    same: int


def compare(suite: str, before: str, after: str) -> Difference:
    """Compare a suite's records in two places: results folders, git revisions of this checkout's `results/`, or snapshots.

    Raises RateBenchError if a place is none of these, or if it has no record of the suite.
    """
    (first, one), (second, two) = (_load(place, suite) for place in (before, after))
    both = [(one[key], two[key]) for key in sorted(one.keys() & two.keys())]
    changed = [(a.record, b.record) for a, b in both if _differ(a, b)]
    return Difference(
        before=first,
        after=second,
        gone=[one[key].record for key in sorted(one.keys() - two.keys())],
        new=[two[key].record for key in sorted(two.keys() - one.keys())],
        changed=changed,
        same=len(both) - len(changed),
    )


@dataclass(frozen=True)
class _Known:
    """A record, with the values of single test items if they were kept."""

    record: Record
    values: bytes | None


def _differ(one: _Known, two: _Known) -> bool:
    a, b = one.record, two.record
    scores = any(a.metrics[name] != b.metrics[name] for name in a.metrics.keys() & b.metrics.keys())
    return a.rate != b.rate or scores or (None not in (one.values, two.values) and one.values != two.values)


def _load(place: str, suite: str) -> tuple[str, dict[str, _Known]]:
    """The snapshot and the records, by id, of a suite in a place."""
    with _folder(place, suite) as folder:
        found = {r.id: _Known(r, items.beside(path)) for path, r in folders.stored(folder, suite).items()}
        if not found:
            msg = f"there are no records of {suite!r} in {place}"
            raise RateBenchError(msg)
        return snapshot(folder, suite), found


@contextmanager
def _folder(place: str, suite: str) -> Iterator[Path]:
    """A results folder with the suite's records in a place; the working tree is not touched."""
    if Path(place).is_dir():
        yield Path(place)
        return
    with tempfile.TemporaryDirectory() as folder:
        packed = _archive(place, suite)
        if packed is None and re.fullmatch(rf"[0-9a-f]{{{DIGITS}}}", place):
            packed = _archive(history.find(Path(RESULTS), place).commit, suite)
        if packed is None:
            msg = (
                f"{place} is neither a folder nor a git revision with {RESULTS}/{suite}, nor a snapshot of its records"
            )
            raise RateBenchError(msg)
        with unpacking.opened(io.BytesIO(packed), place) as tar:
            for name, member in unpacking.members(tar, place, len(packed), flat=False).items():
                unpacking.copy(tar, member, Path(folder) / name)
        yield Path(folder) / RESULTS


def _archive(revision: str, suite: str) -> bytes | None:
    """The suite's folder at a revision as a tar file; None if there is no such revision or folder."""
    command = ["git", "archive", "--end-of-options", revision, f"{RESULTS}/{suite}"]
    try:
        return subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
