"""Messages between the process that runs a method and the fresh process that scores, one line of JSON each."""

from __future__ import annotations

import msgspec

from benchmarks.evaluation.metrics import Sums

__fingerprint__ = False  # transports numbers, computes none


class Wanted(msgspec.Struct, frozen=True):
    """A request: an artefact, the shards to score (every `of`-th, starting at `first`), and the folder for their scores."""

    artefact: str
    notes: str | None = None
    first: int = 0
    of: int = 1


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """The measurements of one artefact. The names of times contain their units.

    `scores` are sums over the test items of the requested shards, by metric.
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
