"""Records as JSON files, one for each operating point, written atomically."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import storage
from benchmarks.errors import RecordError
from benchmarks.records import migration
from benchmarks.records.schema import SCHEMA, CellState, Record


def _read(path: Path, kind: type[Any]) -> Any:
    try:
        plain = msgspec.json.decode(path.read_bytes())
        while (schema := plain["schema"]) != SCHEMA:
            if schema not in migration.STEPS:
                msg = f"this release does not know schema {schema}"
                raise TypeError(msg)
            plain = migration.STEPS[schema](plain)
        found = msgspec.convert(plain, kind)
        if isinstance(found, Record) and not found.metrics:
            raise TypeError("it has no metric")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError, ValueError) as error:
        msg = f"{path} is not a valid record ({error}): delete it and run again to measure that point"
        raise RecordError(msg) from error
    except OSError as error:
        msg = f"can't read {path}: {error.strerror or error}"
        raise RecordError(msg) from error
    return found


def read(path: Path) -> Record:
    """The record in a file; raises RecordError with the file's name and the reason."""
    record: Record = _read(path, Record)
    return record


def read_cell(path: Path) -> CellState:
    """The cell state in a file; raises RecordError as `read` does."""
    state: CellState = _read(path, CellState)
    return state


def write(path: Path, record: Record | CellState) -> None:
    """Store a record atomically, indented so that people can read it and compare versions."""
    storage.write(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")


def paths(results: Path, suite: str) -> list[Path]:
    """All point records of a suite, in the order of their ids."""
    return sorted((results / suite).glob("*/*/*/p*.json"))


def load(results: Path, suite: str) -> Iterator[Record]:
    """All records of a suite; raises RecordError at the first damaged file."""
    return map(read, paths(results, suite))
