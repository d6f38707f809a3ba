"""Claims that papers make in words ("joint beats separate at equal size"), as data, and how numbers support them.

`methods/<key>/claims.toml` names two sides and the label at which their points are compared. Like `reported.toml`, it is
not part of a method's fingerprint. This module does not depend on records.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from scipy.special import stdtr

from benchmarks.papers import reported

Outcome = Literal["supported", "not supported here", "inconclusive"]
LEVEL = 0.05  # of the tests of one claim together
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


class Setting(_Strict, frozen=True, kw_only=True):
    """The setting in which the paper makes a claim, as far as it is known.

    `budget` is "post-training", or "paper" for training by the paper's schedule. `config` holds settings that this suite can
    vary, such as the storage.
    """

    tasks: list[str] = []
    networks: list[str] = []
    budget: str = ""
    config: dict[str, Any] = {}


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
    paper: Setting = Setting()

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
    paper: Setting = Setting()

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


def outcomes(differences: Sequence[tuple[float, float, float]], more_is_better: bool) -> list[Outcome]:
    """The outcome at each point of one claim: of each difference better − worse, its standard error, degrees of freedom.

    A difference counts if it is significant at 5 % over all points of the claim, by Holm's method: of m points, the k-th
    smallest two-sided p-value has to be below 0.05 / (m + 1 − k), as have all smaller ones (Holm 1979).
    """
    found: list[Outcome] = ["inconclusive"] * len(differences)
    values = [p_value(*difference) for difference in differences]
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        if values[place] >= LEVEL / (len(values) - rank):
            break
        found[place] = "supported" if (differences[place][0] > 0) == more_is_better else "not supported here"
    return found


def p_value(difference: float, error: float, freedom: float) -> float:
    """The two-sided p-value of a difference, by Student's t; 0 for one without an error, as that of a single item."""
    if difference == 0:
        return 1.0
    return 2 * float(stdtr(freedom, -abs(difference) / error)) if error and freedom >= 1 else 0.0
