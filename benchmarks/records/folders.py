"""The records of a suite, found by their names and checked together.

Only `<suite>/<network>/<method>/<cell>/p<number>.json` is a record. Other files and hidden folders are ignored; a record that
is copied or renamed together with its folder is an error, because its id is not its path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks.errors import RecordError
from benchmarks.records import items
from benchmarks.records.files import read_cell, read_in_place
from benchmarks.records.schema import CellState, Record

POINT = re.compile(r"p(\d+)\.json")
STATE = "cell.json"


def paths(results: Path, suite: str) -> list[Path]:
    """All point records of a suite, in the order of their ids; raises RecordError if a folder can't be read."""
    return [folder / name for folder, names in _cells(results / suite) for name in names if POINT.fullmatch(name)]


def cells(results: Path, suite: str) -> list[Path]:
    """The folders of a suite where cells are, in the order of their ids."""
    return [folder for folder, _ in _cells(results / suite)]


def load(results: Path, suite: str) -> list[Record]:
    """All records of a suite, in the order of their ids; raises RecordError as `stored` does."""
    return list(stored(results, suite).values())


def stored(results: Path, suite: str) -> dict[Path, Record]:
    """The records of a suite by their files, in the order of their ids.

    Raises RecordError at the first file that can't be used, and if a cell lacks a point or has points of different runs.
    """
    found: dict[Path, Record] = {}
    for folder, names in _cells(results / suite):
        own = {path: read_in_place(path) for path in (folder / name for name in names if POINT.fullmatch(name))}
        _check(folder, list(own.values()), read_cell(folder / STATE) if STATE in names else None)
        if any(name.endswith(items.SUFFIX) for name in names):
            for path, known in own.items():
                items.check(path, known)
        found |= own
    return found


def points(folder: Path) -> list[Path]:
    """The point records in the folder of one cell; empty if there is no such folder."""
    return [folder / name for name in _names(folder) if POINT.fullmatch(name)]


def _cells(suite: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folders three levels below a suite's, with the names of their files."""
    level = [suite]
    for _ in range(3):
        level = [folder / name for folder in level for name in _names(folder, folders=True)]
    yield from ((folder, _names(folder)) for folder in level)


def _names(folder: Path, folders: bool = False) -> list[str]:
    """The sorted names in a folder, without hidden ones; empty if there is no such folder.

    What has the name of a record counts as a file. Raises RecordError for a link to a folder that is not there.
    """
    _check_links(folder)
    try:
        with os.scandir(folder) as entries:
            seen = [e for e in entries if e.name[0] != "."]
            if not folders:
                return sorted(e.name for e in seen if not e.is_dir() or e.name == STATE or POINT.fullmatch(e.name))
            for e in seen:
                if e.is_symlink():
                    _check_links(Path(e.path))
            return sorted(e.name for e in seen if e.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        msg = f"can't read {folder}: {error.strerror or error}"
        raise RecordError(msg) from error


def _check_links(folder: Path) -> None:
    """Raise RecordError if a link on the way to a folder leads to nothing: records may be there when it is mounted again."""
    lost = next((p for p in (folder, *folder.parents) if p.is_symlink() and not p.exists()), None)
    if lost is not None:
        msg = f"{lost} is a link to {lost.readlink()}, which is not there: restore that, or remove the link"
        raise RecordError(msg)


def _check(folder: Path, known: Sequence[Record], state: CellState | None) -> None:
    """Raise RecordError if points of a cell are missing or contradict each other."""
    wanted = state.points if state else 0
    last = max((r.index for r in known), default=-1)
    if len(known) <= max(wanted - 1, last):
        missing = next(i for i in range(max(wanted, last + 1)) if i not in {r.index for r in known})
        msg = f"{folder / f'p{missing:02d}.json'} is missing: restore it, or `ratebench run` measures that point again"
        raise RecordError(msg)
    runs: dict[str, Record] = {}
    for r in known:
        first = runs.setdefault(r.provenance.fingerprint, r)
        if (other := _difference(first, r)) is not None:
            pair = f"p{first.index:02d}.json and p{r.index:02d}.json"
            msg = f"{folder}: {pair} have one fingerprint, but another {other}: restore them, or move one of them away"
            raise RecordError(msg)
    places: dict[bytes, Record] = {}
    for r in known:
        first = places.setdefault(msgspec.json.encode((r.provenance.fingerprint, r.point), order="sorted"), r)
        if first is not r:
            pair = f"p{first.index:02d}.json and p{r.index:02d}.json"
            msg = f"{folder}: {pair} are the same operating point: restore them, or move one of them away"
            raise RecordError(msg)
    if state and any(r.index >= wanted and r.provenance.fingerprint == state.fingerprint for r in known):
        msg = (
            f"{folder / STATE} counts {wanted} points, but p{last:02d}.json was measured in the same run: restore them, "
            "or `ratebench run` completes the cell"
        )
        raise RecordError(msg)


def _difference(a: Record, b: Record) -> str | None:
    """What differs between two points, although a fingerprint covers it."""
    if a.epochs != b.epochs:
        return "number of epochs"
    if a.learning_rate != b.learning_rate:
        return "learning rate"
    if a.config != b.config:
        return "configuration"
    if a.task != b.task:
        return "task"
    return None
