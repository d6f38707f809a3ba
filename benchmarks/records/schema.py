"""The record of one operating point, and how a cell ended: one schema, whose older versions are migrated when read.

Numbers are numbers with their unit in the name, times are ISO-8601 UTC, what is unknown is null.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from methods.interface import Fidelity, Role

SCHEMA = 2
ROLES: tuple[str, ...] = get_args(Role)  # of the bytes of a file, in the order in which they are shown


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Rate(_Strict, frozen=True):
    """Bytes of the file, whole and by role; `ratio` is uncompressed bytes / file bytes.

    `uncompressed_bytes` are the task's: fp32 bytes of the reference network, where there is one. `bits_per_weight`
    spreads the file over the values of that network; None where there is none.
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
    """A metric over the test items: sums of values and of their squares, which add up, the average and its 95 % interval.

    `value`, `low` and `high` are before the metric's scale: a proportion is a share of 1.
    """

    items: int
    total: int | float
    squares: int | float
    value: float
    low: float
    high: float


class Speed(_Strict, frozen=True):
    """Seconds to encode and decode; median latency of the decoded network in milliseconds.

    That of 128 items is None where a CPU would need gigabytes for the activations.
    """

    device: str
    threads: int
    encode_s: float
    decode_s: float
    latency_ms_batch1: float
    latency_ms_batch128: float | None


class Provenance(_Strict, frozen=True):
    """Where the numbers come from; no paths, no host names.

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

    `point` labels it, `notes` are what the method found out on the way; `metrics` holds the task's metrics, the one that
    networks are compared by first, of the epoch that `selection` says; `wall_s` is the time from the previous point (or
    the start) to this one.
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
        """The name of the metric that networks are compared by."""
        return next(iter(self.metrics))

    @property
    def quality(self) -> Score:
        """That metric's score."""
        return self.metrics[self.metric]


class CellState(_Strict, frozen=True):
    """How a cell (method × config × network × budget × seed) ended: complete with so many points, or failed and why."""

    schema: int
    fingerprint: str
    status: Literal["complete", "failed"]
    points: int
    wall_s: float
    error: str | None = None
