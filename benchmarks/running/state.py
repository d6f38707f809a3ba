"""The state of a cell in the results folder: its records, how it ended, and the folder of work in progress.

A cell's folder under the results folder holds one record and one artefact per operating point, the log of the run, and
`cell.json`, written last. Records with the current fingerprint are kept; others are measured again.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import records, storage
from benchmarks.errors import RecordError
from benchmarks.records import CellState, Record
from benchmarks.running.cell import Cell

WORK = ".work"  # checkpoints, logs and locks of running cells, beside the suites' folders
LOG = "log.txt"


def state(cell: Cell, results: Path) -> CellState | None:
    """How the cell ended with the current fingerprint; None if it must be run. A damaged file counts as absent."""
    folder = results / cell.id
    try:
        ended = records.read_cell(folder / "cell.json")
        points = [records.read(folder / f"p{i:02d}.json") for i in range(ended.points)]
    except RecordError:
        return None
    fingerprint = cell.fingerprint()
    fresh = all(p.provenance.fingerprint == fingerprint for p in points)
    return ended if ended.fingerprint == fingerprint and fresh else None


def valid(path: Path, fingerprint: str) -> Record | None:
    """The existing record, if it has the current fingerprint."""
    try:
        known = records.read(path)
    except RecordError:
        return None
    return known if known.provenance.fingerprint == fingerprint else None


def leave_out(cell: Cell, results: Path) -> None:
    """Make the folder of a method whose cell is not supported: DVC expects it as an output."""
    folder = results / cell.id
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"can't write in {results}: {error.strerror or error}"
        raise storage.StorageError(msg) from error
