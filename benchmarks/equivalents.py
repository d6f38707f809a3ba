"""Changes of the code that were shown to give the same results, so that records stay valid: equivalents.toml.

`ratebench accept` writes this file, with the evidence. A later change of the same code needs its own entry.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import RateBenchError

__fingerprint__ = False  # identifies results, computes none

PLACE = Path(__file__).with_name("equivalents.toml")


@dataclass(frozen=True)
class Same:
    """Contents of files (hashes) before and after a change that gives the same results."""

    now: frozenset[str]
    then: frozenset[str]


@functools.cache
def rows(place: Path | None = None) -> Sequence[Same]:
    """All accepted changes, oldest first; within one change, those of fewer files first. Raises RateBenchError."""
    place = place or PLACE
    if not place.exists():
        return ()
    try:
        changes = tomllib.loads(place.read_text(encoding="utf-8")).get("accepted", [])
        return [Same(frozenset(row["now"]), frozenset(row["then"])) for change in changes for row in change["same"]]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        msg = f"can't read the accepted changes in {place} ({error}): after a merge, keep the entries of both sides"
        raise RateBenchError(msg) from error


def before(contents: frozenset[str], accepted: Sequence[Same] | None = None) -> frozenset[str]:
    """The oldest contents that are known to give the same results as these."""
    for same in reversed(rows() if accepted is None else accepted):
        if same.now <= contents:
            contents = contents - same.now | same.then
    return contents
