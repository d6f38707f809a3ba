"""Compares two snapshots of a suite: added, removed and changed records."""

from __future__ import annotations

import io
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import unpacking
from benchmarks.errors import RateBenchError
from benchmarks.records import folders
from benchmarks.records.schema import Record
from benchmarks.records.snapshot import snapshot


@dataclass(frozen=True)
class Difference:
    """The records in one snapshot only (`gone`, `new`), those that differ in bytes or scores, and the number of equal ones.

    A metric that only one of two records has does not count as a difference.
    """

    before: str
    after: str
    gone: list[Record]
    new: list[Record]
    changed: list[tuple[Record, Record]]
    same: int


def compare(suite: str, before: str, after: str) -> Difference:
    """Compare a suite's records in two places: results folders, or git revisions of this checkout's `results/`.

    Raises RateBenchError if a place is neither, or if it has no record of the suite.
    """
    one, two = ({r.id: r for r in load(place, suite)} for place in (before, after))
    both = [(one[key], two[key]) for key in sorted(one.keys() & two.keys())]
    changed = [(a, b) for a, b in both if _differ(a, b)]
    return Difference(
        before=snapshot(one.values()),
        after=snapshot(two.values()),
        gone=[one[key] for key in sorted(one.keys() - two.keys())],
        new=[two[key] for key in sorted(two.keys() - one.keys())],
        changed=changed,
        same=len(both) - len(changed),
    )


def _differ(a: Record, b: Record) -> bool:
    return a.rate != b.rate or any(a.metrics[name] != b.metrics[name] for name in a.metrics.keys() & b.metrics.keys())


def load(place: str, suite: str) -> list[Record]:
    """The records of a suite in a results folder or at a git revision."""
    if Path(place).is_dir():
        found = folders.load(Path(place), suite)
    else:
        with tempfile.TemporaryDirectory() as folder:
            _checkout(place, suite, Path(folder))
            found = folders.load(Path(folder) / "results", suite)
    if not found:
        msg = f"there are no records of {suite!r} in {place}"
        raise RateBenchError(msg)
    return found


def _checkout(revision: str, suite: str, folder: Path) -> None:
    """Write the suite's records at a revision into `folder`; the working tree is not touched."""
    command = ["git", "archive", "--end-of-options", revision, f"results/{suite}"]
    try:
        packed = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        msg = f"{revision} is neither a folder nor a git revision with results/{suite}"
        raise RateBenchError(msg) from error
    with unpacking.opened(io.BytesIO(packed), revision) as tar:
        for name, member in unpacking.members(tar, revision, len(packed), flat=False).items():
            unpacking.copy(tar, member, folder / name)
