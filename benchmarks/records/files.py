"""Records as JSON files, one for each operating point, written atomically and checked when they are read."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

from benchmarks import storage
from benchmarks.errors import DamagedRecord, RecordError
from benchmarks.records import migration, regular, sense
from benchmarks.records.schema import SCHEMA, CellState, Record

LIMIT = 64 * 2**20  # bytes of a record
_WRONG = (msgspec.MsgspecError, DamagedRecord, RecursionError, LookupError, TypeError, ValueError, ArithmeticError)


class _Newer(Exception):
    """The data follows a schema of a later release."""


class _Versioned(msgspec.Struct):
    """What a file of any schema has."""

    schema: Any


def read(path: Path) -> Record:
    """The record in a file, wherever the file is.

    Raises DamagedRecord if the content is no record, and RecordError if it may be fine: it can't be read now, was written
    by a newer release, or is stored in another encoding. Both name the file and the reason.
    """
    record: Record = _read(path, Record)
    return record


def read_in_place(path: Path) -> Record:
    """The record in a file of a results folder; also raises RecordError if it belongs to another place there."""
    record = read(path)
    if not f"{os.sep}{path}".endswith(f"{os.sep}{record.id.replace('/', os.sep)}.json"):
        own = path.parents[4] / f"{record.id}.json"
        there = f"{own}, which exists as well" if own.exists() else f"{own}"
        msg = f"{path} is the record of {there}: move it out of {path.parents[4]}, or back to its place"
        raise RecordError(msg)
    return record


def read_cell(path: Path) -> CellState:
    """The cell state in a file; raises as `read` does."""
    state: CellState = _read(path, CellState)
    return state


def write(path: Path, record: Record | CellState) -> None:
    """Store a record atomically.

    Raises DamagedRecord, and writes nothing, if it could not be read again.
    """
    data = msgspec.json.encode(record)
    try:
        _decoded(data, type(record))
    except _WRONG as error:
        msg = f"the values for {path} contradict each other: {error}"
        raise DamagedRecord(msg) from error
    storage.write(path, _formatted(data))


def _read(path: Path, kind: type[Any]) -> Any:
    try:
        data = regular.read(path, LIMIT)
    except OSError as error:
        lost = path.is_symlink() and not path.exists()
        why = f"it is a link to {path.readlink()}, which is not there" if lost else error.strerror or error
        msg = f"can't read {path}: {why}"
        raise RecordError(msg) from error
    try:
        return _decoded(data, kind)
    except _Newer as error:
        msg = f"{path} was written by a newer release of RateBench ({error}): update this checkout, or restore the file"
        raise RecordError(msg) from error
    except _WRONG as error:
        if (encoding := _encoding(data)) != "utf-8":
            msg = f"{path} is stored as {encoding}: save it as UTF-8 without a byte order mark, as it was written"
            raise RecordError(msg) from error
        again = "completes the cell" if kind is CellState else "measures that point"
        msg = f"{path} is not a valid record ({error}): restore it from a copy, or `ratebench run` {again} again"
        raise DamagedRecord(msg) from error


def _decoded(data: bytes, kind: type[Any]) -> Any:
    """A record or a cell state; raises _Newer or one of _WRONG."""
    schema = msgspec.json.decode(data, type=_Versioned).schema
    known = f"schema {schema}, this release knows {SCHEMA}"
    if type(schema) is int and schema > SCHEMA:
        raise _Newer(known)
    try:
        current = type(schema) is int and schema == SCHEMA
        found = msgspec.json.decode(data, type=kind) if current else _migrated(data, kind)
    except msgspec.ValidationError as error:
        unknown = "unknown field" in str(error) and not _lacks(msgspec.json.decode(data), kind)
        if unknown or "Invalid enum value" in str(error):
            msg = f"{known}, {error}"
            raise _Newer(msg) from error
        raise
    if data != _formatted(msgspec.json.encode(found)):  # reading JSON in Python takes longer than all else
        json.loads(data, object_pairs_hook=_unique)
    sense.check(found)
    return found


def _formatted(data: bytes) -> bytes:
    """Indented, so that people can read it and compare versions."""
    return msgspec.json.format(data, indent=1) + b"\n"


def _unique(pairs: list[tuple[str, Any]]) -> None:
    """Raise DamagedRecord if a key is there twice: readers would disagree about its value."""
    twice = [key for key, number in Counter(key for key, _ in pairs).items() if number > 1]
    if twice:
        msg = f"the key {twice[0]!r} is there twice"
        raise DamagedRecord(msg)


def _lacks(plain: Any, kind: type[Any]) -> bool:
    """Whether plain data, or data within it, lacks a required field of its kind: no release writes that."""
    if not isinstance(plain, dict):
        return False
    for field in msgspec.structs.fields(kind):
        if field.encode_name not in plain:
            if field.required:
                return True
            continue
        value = plain[field.encode_name]
        inner = [
            t for t in (field.type, *get_args(field.type)) if isinstance(t, type) and issubclass(t, msgspec.Struct)
        ]
        values = value.values() if get_origin(field.type) is dict and isinstance(value, dict) else [value]
        if any(_lacks(one, t) for t in inner for one in values):
            return True
    return False


def _migrated(data: bytes, kind: type[Any]) -> Any:
    """Data of an older schema, converted step by step."""
    plain = msgspec.json.decode(data)
    while (schema := plain["schema"]) != SCHEMA or type(schema) is not int:
        if type(schema) is not int or schema not in migration.STEPS:
            msg = f"this release does not know schema {schema!r}"
            raise TypeError(msg)
        plain = migration.STEPS[schema](plain)
    return msgspec.convert(plain, kind)


def _encoding(data: bytes) -> str:
    """The encoding in which the data is JSON with a schema, if that is not UTF-8; "utf-8" also if there is none."""
    try:
        data.decode()
        likely: tuple[str, ...] = (json.detect_encoding(data),)
    except UnicodeDecodeError:
        likely = (json.detect_encoding(data), "latin-1")
    for name in likely:
        try:
            if name != "utf-8" and "schema" in json.loads(data.decode(name)):
                return name
        except (ValueError, TypeError, RecursionError):
            continue
    return "utf-8"
