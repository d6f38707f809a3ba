"""Which configurations a paper's description matches."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import Any

from benchmarks.records import described
from benchmarks.records.rows import Row


def is_named(network: str, wanted: str) -> bool:
    """Whether a network has the name `wanted`, or one that matches it as a pattern."""
    return network == wanted or fnmatchcase(network, wanted)


def _same(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, int | float) and isinstance(found, int | float):
        return math.isclose(wanted, found, rel_tol=1e-6)
    return bool(wanted == found)


def has(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether all of `wanted` is in `found`; numbers may differ in their type and last digit."""
    return all(name in found and _same(value, found[name]) for name, value in wanted.items())


def changed(row: Row) -> int:
    """The number of settings that differ from the defaults; the matching configuration with the fewest is used."""
    return len(described.changes(row.first))
