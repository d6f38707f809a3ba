"""The state of a cell in the results folder: its records, how it ended, and the folder of work in progress.

A cell's folder under the results folder holds one record and one artefact per operating point, the log of the run, and
`cell.json`, written last. Records with the current fingerprint are kept, others are measured again, and damaged files count
as absent. If a reference was trained on this machine, its hash has to be the current one, too. Files that may be fine stop
the run before anything is written: those that can't be read, are from a newer release, in another encoding, or records of
another place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from benchmarks import records, storage
from benchmarks.errors import DamagedRecord
from benchmarks.records import CellState, Record
from benchmarks.running import references
from benchmarks.running.cell import Cell

WORK = ".work"  # checkpoints, logs and locks of running cells, beside the suites' folders
LOG = "log.txt"


def state(cell: Cell, results: Path) -> CellState | None:
    """How the cell ended with the current fingerprint and reference; None if it must be run.

    If the reference is to be trained on this machine and is not yet, the cell must be run. Raises RecordError for any file in
    the cell's folder that may be fine but can't be used.
    """
    folder, fingerprint = results / cell.id, cell.fingerprint()
    known = {path.name: valid(path, cell, fingerprint, {}) for path in records.points(folder)}
    try:
        ended = records.read_cell(folder / "cell.json") if os.path.lexists(folder / "cell.json") else None
    except DamagedRecord:
        return None
    measured = sum(one is not None for one in known.values())
    if ended is None or ended.fingerprint != fingerprint or ended.points < measured:
        return None
    points = [known.get(f"p{i:02d}.json") for i in range(min(ended.points, len(known) + 1))]
    required = references.required(cell.task, cell.network)
    fresh = required is not None and all(p is not None and references.holds(p, required) for p in points)
    return ended if fresh else None


def valid(path: Path, cell: Cell, fingerprint: str, required: Mapping[str, str]) -> Record | None:
    """The existing record, if it is of this cell, and has its `fingerprint` and the `required` entries about the reference.

    Raises RecordError as `state` does.
    """
    try:
        known = records.read_in_place(path) if os.path.lexists(path) else None
    except DamagedRecord:
        return None
    if known is None or known.provenance.fingerprint != fingerprint or not references.holds(known, required):
        return None
    same = all(known.config.get(name, value) == value for name, value in cell.config.items())
    return known if same and known.task == cell.task else None


def leave_out(cell: Cell, results: Path) -> None:
    """Make the folder of a method whose cell is not supported: DVC expects it as an output."""
    folder = results / cell.id
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"can't write in {results}: {error.strerror or error}"
        raise storage.StorageError(msg) from error
