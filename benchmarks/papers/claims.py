"""What papers claim in words ("joint beats separate at equal size"), as data, and when numbers support it.

`methods/<key>/claims.toml` names two sides and the label at which their points are compared. Like `reported.toml` it is
no part of a method's fingerprint. This file does not depend on records.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import msgspec

from benchmarks.evaluation.metrics import Z95
from benchmarks.papers import reported

Outcome = Literal["supported", "not supported", "inconclusive"]
BYTES = "bytes"  # what `at` says where curves are compared at equal file sizes


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Side(_Strict, frozen=True, kw_only=True):
    """One side of a comparison: a method, and the settings that its configuration has to have.

    `counted` is how its size is counted where sides are compared at equal bytes: its files; or, as is common for pruning,
    four bytes for each value that is not zero ("values"), or those and a bit for every value ("values and mask").
    """

    method: str
    config: dict[str, Any] = {}
    counted: Literal["file", "values", "values and mask"] = "file"


class Claim(_Strict, frozen=True, kw_only=True):
    """`better` scores better than `worse` at one budget, where their points have the same value of the label `at`.

    With `at` "bytes", each point of `better` is compared with what the curve of `worse` gives for files of its size.
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
    """At one budget, the note `note` of every point of `of` is above `above`."""

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
    """The claims of a method's paper; empty where the module brings no claims.toml."""
    path = reported.beside(key, "claims.toml")
    return Claims() if path is None else read(path)


def read(path: Path) -> Claims:
    """A claims.toml; raises RateBenchError that names the file, the place and the reason."""
    return reported.decode(path, Claims)


def judge(
    better: tuple[float, float], worse: tuple[float, float], more_is_better: bool
) -> tuple[float, float, Outcome]:
    """(difference better − worse, half width of its 95 % interval, outcome) of two (mean, standard error).

    Inconclusive where the interval contains zero. The errors are taken as independent, although both sides are scored on
    the same test items: that makes the interval wider than it has to be.
    """
    difference = better[0] - worse[0]
    margin = Z95 * math.hypot(better[1], worse[1])
    if abs(difference) <= margin:
        return difference, margin, "inconclusive"
    return difference, margin, "supported" if (difference > 0) == more_is_better else "not supported"
