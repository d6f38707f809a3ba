"""What the process that runs a method and the fresh process that scores say to each other, one line of JSON each."""

from __future__ import annotations

import msgspec

from benchmarks.evaluation.metrics import Sums

__fingerprint__ = False  # carries numbers, makes none


class Wanted(msgspec.Struct, frozen=True):
    """An artefact, which of the test items' shards to score (every `of`-th from the `first`), and where to note scores."""

    artefact: str
    notes: str | None = None
    first: int = 0
    of: int = 1


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one artefact by a process that has nothing else. Times in the units their names say.

    `scores` are sums over the test items of the shards that were wanted, by metric.
    """

    sha256: str
    file_bytes: int
    by_role: dict[str, int]
    scores: dict[str, Sums]
    elements: int
    nonzero: int
    macs: int
    decode_s: float
    latency_ms_batch1: float
    latency_ms_batch128: float | None
