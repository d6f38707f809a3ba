"""The name of a set of records: a hash of what their files hold, the values of test items and latencies included."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from benchmarks.records import folders, items, latency

DIGITS = 12  # of an id, hexadecimal


def digest(data: bytes, values: bytes | None = None) -> bytes:
    """The hash of a JSON file: formatting, line ends and the order of keys do not count, every value does.

    `values` are those of single test items, if there are any beside a record: ranks and claims depend on them. Nothing is added
    to the content: a field that a later schema has, with a default, changes no hash. Raises msgspec.DecodeError for data that
    is not JSON.
    """
    plain = msgspec.json.encode(msgspec.json.decode(data), order="sorted")
    return hashlib.sha256(plain if values is None else plain + hashlib.sha256(values).digest()).digest()


def combined(digests: Iterable[bytes]) -> str:
    """The snapshot of files with these hashes, in any order."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:DIGITS]


def snapshot(results: Path, suite: str) -> str:
    """12 hex digits that identify the records of a suite; raises OSError and msgspec.DecodeError for files of no record."""
    known = [digest(path.read_bytes(), items.beside(path)) for path in folders.paths(results, suite)]
    return combined([*known, *(digest(path.read_bytes()) for path in latency.paths(results, suite))])
