"""The schema of records and of cell states. Files of older versions are migrated when they are read.

Names of quantities contain their unit, times are in ISO 8601 and UTC, and unknown values are null. The types contain the
bounds of single values; `sense.py` checks the values against each other.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

from methods.interface import Fidelity, Role

SCHEMA = 2
ROLES: tuple[str, ...] = get_args(Role)  # roles of the bytes of a file, in the order in which they are shown
REFERENCE, ITEMS = (
    "reference_tensors",
    "items",
)  # keys of `Provenance.data`, beside those of the task's own `provenance`
LARGEST = 2**53  # the largest integer that every reader of JSON takes exactly

Name: TypeAlias = Annotated[str, Meta(pattern=r"\A(?!\.)[^/\\\x00-\x1f]+\Z")]  # one level of a path
Positive: TypeAlias = Annotated[int, Meta(ge=1, le=LARGEST)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=LARGEST)]
Sum: TypeAlias = Annotated[int, Meta(ge=-LARGEST, le=LARGEST)] | float
Amount: TypeAlias = Annotated[float, Meta(ge=0)]
Fingerprint: TypeAlias = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]
Sha256: TypeAlias = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Commit: TypeAlias = Annotated[str, Meta(pattern=r"\A([0-9a-f]{40}|[0-9a-f]{64})\Z")]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Rate(_Strict, frozen=True):
    """Bytes of the file, in total and by role; `ratio` is uncompressed bytes / file bytes.

    The task defines `uncompressed_bytes`: the fp32 bytes of the reference network, if there is one. `bits_per_weight` is
    bits of the file / values of that network; None without a reference network.
    """

    file_bytes: Positive
    by_role: dict[str, Count]
    uncompressed_bytes: Positive
    ratio: Amount
    bits_per_weight: Amount | None


class Counted(_Strict, frozen=True):
    """Counts on the decoded network: tensor elements, non-zero ones, multiply-accumulates for one item."""

    elements: Count
    nonzero: Count
    macs: Count


class Score(_Strict, frozen=True):
    """A metric over the test items: the sum of the values and of their squares, the average and its 95 % interval.

    `value`, `low` and `high` are not multiplied by the metric's scale: a proportion is between 0 and 1.
    """

    items: Positive
    total: Sum
    squares: Sum
    value: float
    low: float
    high: float


class Speed(_Strict, frozen=True):
    """Seconds to encode and decode; median latency of the decoded network in milliseconds.

    The latency of 128 items is None if a CPU would need gigabytes for the activations.
    """

    device: str
    threads: Positive
    encode_s: Amount
    decode_s: Amount
    latency_ms_batch1: Amount
    latency_ms_batch128: Amount | None


class Provenance(_Strict, frozen=True):
    """The origin of the numbers, without paths and host names.

    `processes` trained and scored together, each with at most `micro` items in its network at once (None: no limit).
    """

    fingerprint: Fingerprint
    commit: Commit | None
    dirty: bool | None
    command: str
    started: str
    versions: dict[str, str]
    cpu: str
    gpu: str | None
    data: dict[str, str]
    artefact_sha256: Sha256
    processes: Positive = 1
    micro: Positive | None = None


class Record(_Strict, frozen=True, kw_only=True):
    """One operating point of one cell.

    `epochs` and `learning_rate` are those of the budget, for each point. `point` labels it; `notes` are further results of the
    method. `metrics` holds the task's metrics after the epoch that `selection` names; networks are compared by the first.
    `validation` is the first metric on the task's validation items, by which configurations are chosen; None if it is unknown.
    `wall_s` is the time from the previous point (or the start) to this one.
    """

    schema: int
    id: str
    suite: Name
    task: Name
    network: Name
    method: Name
    fidelity: Fidelity
    config: dict[str, Any]
    config_hash: str
    budget: Name
    epochs: Amount | None
    learning_rate: Amount | None = None
    seed: int
    index: Count
    point: dict[str, Any]
    rate: Rate
    counted: Counted
    metrics: dict[str, Score]
    validation: Score | None = None
    selection: Literal["last"] = "last"
    speed: Speed
    wall_s: Amount
    provenance: Provenance
    notes: dict[str, Any] = {}

    @property
    def metric(self) -> str:
        """The name of the metric by which networks are compared."""
        return next(iter(self.metrics))

    @property
    def quality(self) -> Score:
        """That metric's score."""
        return self.metrics[self.metric]


class CellState(_Strict, frozen=True):
    """How a cell (method × config × network × budget × seed) ended: complete, or failed for the reason `error`."""

    schema: int
    fingerprint: Fingerprint
    status: Literal["complete", "failed"]
    points: Count
    wall_s: Amount
    error: str | None = None
