"""The name of a set of records: a hash of what their files hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from benchmarks.records import folders

DIGITS = 12  # of an id, hexadecimal


def digest(data: bytes) -> bytes:
    """The hash of a record's file: formatting, line ends and the order of keys do not count, every value does.

    Nothing is added to the content: a field that a later schema has, with a default, changes no hash. Raises
    msgspec.DecodeError for data that is not JSON.
    """
    plain = msgspec.json.encode(msgspec.json.decode(data), order="sorted")
    return hashlib.sha256(plain).digest()


def combined(digests: Iterable[bytes]) -> str:
    """The snapshot of records with these hashes, in any order."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:DIGITS]


def snapshot(results: Path, suite: str) -> str:
    """12 hex digits that identify the records of a suite; raises OSError and msgspec.DecodeError for files of no record."""
    return combined(digest(path.read_bytes()) for path in folders.paths(results, suite))
