"""Claims that papers make in words ("joint beats separate at equal size"), as data, and how numbers support them.

`methods/<key>/claims.toml` names two sides and the label at which their points are compared. Like `reported.toml`, it is
not part of a method's fingerprint. This module does not depend on records.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import msgspec

from benchmarks.evaluation.metrics import Z95
from benchmarks.papers import reported

Outcome = Literal["supported", "not supported", "inconclusive"]
BYTES = "bytes"  # the value of `at` for comparisons at equal sizes


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Side(_Strict, frozen=True, kw_only=True):
    """One side of a comparison: a method, and the settings that its configuration has to have.

    `counted` defines how its size is counted in a comparison at equal bytes: the whole file ("file") or, as is common for
    pruning, four bytes for each non-zero value ("values"), or these and one bit for every value ("values and mask").
    """

    method: str
    config: dict[str, Any] = {}
    counted: Literal["file", "values", "values and mask"] = "file"


class Claim(_Strict, frozen=True, kw_only=True):
    """`better` scores better than `worse` at one budget, at points that have the same value of the label `at`.

    With `at` "bytes", each point of `better` is compared with the score on the curve of `worse` at the same size.
    """

    text: str
    source: str
    task: str
    budget: str
    at: str
    better: Side
    worse: Side

    def __post_init__(self) -> None:
        if self.at != BYTES and (self.better.counted, self.worse.counted) != ("file", "file"):
            msg = f"`counted` belongs to claims at {BYTES!r}, not at {self.at!r}"
            raise ValueError(msg)


class Observation(_Strict, frozen=True, kw_only=True):
    """At one budget, the note `note` is above `above` at every point of `of`."""

    text: str
    source: str
    task: str
    budget: str
    of: Side
    note: str
    above: float

    def __post_init__(self) -> None:
        if self.of.counted != "file":
            raise ValueError("`counted` belongs to claims, not to observations")


class Claims(_Strict, frozen=True):
    """The content of a claims.toml."""

    claim: list[Claim] = []
    observation: list[Observation] = []


def of(key: str) -> Claims:
    """The claims of a method's paper; empty if the module has no claims.toml."""
    path = reported.beside(key, "claims.toml")
    return Claims() if path is None else read(path)


def read(path: Path) -> Claims:
    """A claims.toml; raises RateBenchError that names the file, the place and the reason."""
    return reported.decode(path, Claims)


def judge(
    better: tuple[float, float], worse: tuple[float, float], more_is_better: bool
) -> tuple[float, float, Outcome]:
    """(difference better − worse, half width of its 95 % interval, outcome) from the (mean, standard error) of both sides.

    The outcome is "inconclusive" if the interval contains zero. The errors are taken as independent, although both sides
    are scored on the same test items: this usually makes the interval wider than necessary.
    """
    difference = better[0] - worse[0]
    margin = Z95 * math.hypot(better[1], worse[1])
    if abs(difference) <= margin:
        return difference, margin, "inconclusive"
    return difference, margin, "supported" if (difference > 0) == more_is_better else "not supported"
