"""The name of a set of records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from benchmarks.records.schema import Record


def snapshot(records: Iterable[Record]) -> str:
    """12 hex digits that identify a set of records: they depend on every field, but not on the order of the records."""
    contents = sorted(msgspec.json.encode(record, order="deterministic") for record in records)
    return hashlib.sha256(b"\n".join(contents)).hexdigest()[:12]
