"""The schema of records and of cell states. Files of older versions are migrated when they are read.

Names of quantities contain their unit, times are in ISO 8601 and UTC, and unknown values are null.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from methods.interface import Fidelity, Role

SCHEMA = 2
ROLES: tuple[str, ...] = get_args(Role)  # roles of the bytes of a file, in the order in which they are shown


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Rate(_Strict, frozen=True):
    """Bytes of the file, in total and by role; `ratio` is uncompressed bytes / file bytes.

    The task defines `uncompressed_bytes`: the fp32 bytes of the reference network, if there is one. `bits_per_weight` is
    bits of the file / values of that network; None without a reference network.
    """

    file_bytes: int
    by_role: dict[str, int]
    uncompressed_bytes: int
    ratio: float
    bits_per_weight: float | None


class Counted(_Strict, frozen=True):
    """Counts on the decoded network: tensor elements, non-zero ones, multiply-accumulates for one item."""

    elements: int
    nonzero: int
    macs: int


class Score(_Strict, frozen=True):
    """A metric over the test items: the sum of the values and of their squares, the average and its 95 % interval.

    `value`, `low` and `high` are not multiplied by the metric's scale: a proportion is between 0 and 1.
    """

    items: int
    total: int | float
    squares: int | float
    value: float
    low: float
    high: float


class Speed(_Strict, frozen=True):
    """Seconds to encode and decode; median latency of the decoded network in milliseconds.

    The latency of 128 items is None if a CPU would need gigabytes for the activations.
    """

    device: str
    threads: int
    encode_s: float
    decode_s: float
    latency_ms_batch1: float
    latency_ms_batch128: float | None


class Provenance(_Strict, frozen=True):
    """The origin of the numbers, without paths and host names.

    `processes` trained and scored together, each with at most `micro` items in its network at once (None: no limit).
    """

    fingerprint: str
    commit: str | None
    dirty: bool | None
    command: str
    started: str
    versions: dict[str, str]
    cpu: str
    gpu: str | None
    data: dict[str, str]
    artefact_sha256: str
    processes: int = 1
    micro: int | None = None


class Record(_Strict, frozen=True, kw_only=True):
    """One operating point of one cell.

    `point` labels it; `notes` are further results of the method. `metrics` holds the task's metrics after the epoch that
    `selection` names; networks are compared by the first. `wall_s` is the time from the previous point (or the start) to
    this one.
    """

    schema: int
    id: str
    suite: str
    task: str
    network: str
    method: str
    fidelity: Fidelity
    config: dict[str, Any]
    config_hash: str
    budget: str
    epochs: float | None
    seed: int
    index: int
    point: dict[str, Any]
    rate: Rate
    counted: Counted
    metrics: dict[str, Score]
    selection: Literal["last"] = "last"
    speed: Speed
    wall_s: float
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
    fingerprint: str
    status: Literal["complete", "failed"]
    points: int
    wall_s: float
    error: str | None = None
