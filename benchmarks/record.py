"""The record of one operating point: one JSON file, one schema, written whole or not at all.

Numbers are numbers with their unit in the name, times are ISO-8601 UTC, what is unknown is null. Old schemas are migrated
when they are read (`_MIGRATIONS`); a file that is damaged or follows no known schema raises RecordError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from benchmarks import storage
from benchmarks.errors import RecordError

SCHEMA = 1
_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}  # old schema -> to the next


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Rate(_Strict, frozen=True):
    """Bytes of the file, whole and by role; `ratio` is fp32 bytes of the reference / file bytes."""

    file_bytes: int
    by_role: dict[str, int]
    reference_bytes: int
    ratio: float
    bits_per_weight: float


class Counted(_Strict, frozen=True):
    """Counts on the decoded network: tensor elements, non-zero ones, multiply-accumulates per image."""

    elements: int
    nonzero: int
    macs: int


class Quality(_Strict, frozen=True):
    """Exact counts on the test split with the 95 % Wilson interval; `selection` says which epoch was scored."""

    metric: str
    correct: int
    total: int
    value: float
    low: float
    high: float
    selection: Literal["last"] = "last"


class Speed(_Strict, frozen=True):
    """Seconds to encode and decode; median latency of the decoded network in milliseconds.

    That of 128 images is None where a CPU would need gigabytes for the activations.
    """

    device: str
    threads: int
    encode_s: float
    decode_s: float
    latency_ms_batch1: float
    latency_ms_batch128: float | None


class Provenance(_Strict, frozen=True):
    """Where the numbers come from; no paths, no host names.

    `processes` trained and scored together, each with at most `micro` images in its network at once (None: no limit).
    """

    fingerprint: str
    commit: str | None
    dirty: bool | None
    command: str
    started: str
    versions: dict[str, str]
    cpu: str
    gpu: str | None
    data: dict[str, str]
    artefact_sha256: str
    processes: int = 1
    micro: int | None = None


class Record(_Strict, frozen=True):
    """One operating point of one cell.

    `point` labels it, `notes` are what the method found out on the way; `wall_s` is the time from the previous point (or
    the start) to this one.
    """

    schema: int
    id: str
    suite: str
    task: str
    network: str
    method: str
    faithful: Literal["paper", "reconstruction", "baseline"]
    config: dict[str, Any]
    config_hash: str
    budget: str
    epochs: float | None
    seed: int
    index: int
    point: dict[str, Any]
    rate: Rate
    counted: Counted
    quality: Quality
    speed: Speed
    wall_s: float
    provenance: Provenance
    notes: dict[str, Any] = {}


class CellState(_Strict, frozen=True):
    """How a cell (method × config × network × budget × seed) ended: complete with so many points, or failed and why."""

    schema: int
    fingerprint: str
    status: Literal["complete", "failed"]
    points: int
    wall_s: float
    error: str | None = None


def _read(path: Path, kind: type[Any]) -> Any:
    try:
        plain = msgspec.json.decode(path.read_bytes())
        while (schema := plain["schema"]) != SCHEMA:
            if schema not in _MIGRATIONS:
                msg = f"this release knows no schema {schema}"
                raise TypeError(msg)
            plain = _MIGRATIONS[schema](plain)
        return msgspec.convert(plain, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError) as error:
        msg = f"{path} is no valid record ({error}): delete it and run again to measure that point anew"
        raise RecordError(msg) from error
    except OSError as error:
        msg = f"can't read {path}: {error.strerror or error}"
        raise RecordError(msg) from error


def read(path: Path) -> Record:
    """The record in a file; raises RecordError with the file's name and the reason."""
    record: Record = _read(path, Record)
    return record


def read_cell(path: Path) -> CellState:
    """The cell state in a file; raises RecordError likewise."""
    state: CellState = _read(path, CellState)
    return state


def write(path: Path, record: Record | CellState) -> None:
    """Store a record atomically, indented for people and for diffs."""
    storage.write(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")


def paths(results: Path, suite: str) -> list[Path]:
    """All point records of a suite, in the order of their ids."""
    return sorted((results / suite).glob("*/*/*/p*.json"))


def load(results: Path, suite: str) -> Iterator[Record]:
    """All records of a suite; raises RecordError at the first damaged file."""
    return map(read, paths(results, suite))
