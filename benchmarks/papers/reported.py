"""What papers report, as data (`methods/<key>/reported.toml`), and the verdict on a measurement beside it.

Units: shares and reductions in per cent, ratios as factors, sizes in bytes. Nothing here knows a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

import methods
from benchmarks.errors import RateBenchError

T = TypeVar("T")
Outcome = Literal["replicated", "better", "short", "not comparable", "not attempted"]
CLAIM = "claim"  # the metric of a row that is a sentence; its value says nothing


@dataclass(frozen=True)
class Metric:
    """How a metric is read: its unit, whether more is better, and whether it says how large the network is."""

    unit: str
    more_is_better: bool
    is_rate: bool = False


METRICS = {
    "top-1": Metric("points", True),
    "error": Metric("points", False),
    "ratio": Metric("×", True, is_rate=True),
    "size_reduction": Metric("points", True, is_rate=True),  # 100 × (1 − size / size of the reference)
    "bits_per_weight": Metric("bits", False, is_rate=True),
    "bytes": Metric("bytes", False, is_rate=True),
    "nonzero_share": Metric("points", False),
    "macs": Metric("MACs", False),
    "flops": Metric("FLOPs", False),  # 2 × MACs
}


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Size(_Strict, frozen=True, kw_only=True):
    """The size that a paper gives for a row, in its own accounting."""

    value: float
    unit: Literal["bytes", "ratio", "params"]
    counts: Literal["file", "weights only", "params", "unstated"]


class Reported(_Strict, frozen=True, kw_only=True):
    """One number of a paper.

    `method` is a method of this suite that the number is about, where that is not the paper's own. `point` names the
    operating point by the labels that the method yields; `config` holds what differs from the method's default;
    `budget` is the only one that answers, where one does. `baseline` is the paper's own uncompressed network in the same
    metric; `spread` the printed standard deviation over runs and `best` the best epoch on the test set, which is shown
    and never compared. `comparable` is a reason why the number can't be compared, `known_gap` a reason why a difference
    is expected. `context` marks a number of a method that is not in this suite: it is shown apart, beside no record.
    """

    task: str
    network: str
    metric: str
    value: float
    source: str
    method: str = ""
    budget: str = ""
    point: dict[str, Any] = {}
    config: dict[str, Any] = {}
    baseline: float | None = None
    size: Size | None = None
    tolerance: float | None = None
    spread: float | None = None
    best: float | None = None
    known_gap: str = ""
    comparable: str = ""
    context: bool = False
    claim: str = ""


class _File(_Strict, frozen=True):
    row: list[Reported] = []


def decode(path: Path, kind: type[T]) -> T:
    """A TOML file as `kind`; raises RateBenchError that names the file, the place and the reason."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        msg = f"{path} does not follow the schema of {path.name}: {error}"
        raise RateBenchError(msg) from error
    except OSError as error:
        msg = f"can't read {path}: {error.strerror or error}"
        raise RateBenchError(msg) from error


def beside(key: str, name: str) -> Path | None:
    """The file `name` in the package of method `key`, if there is one."""
    path = methods.source(key) / name
    return path if path.parent.is_dir() and path.exists() else None


def read(path: Path) -> list[Reported]:
    """The rows of a reported.toml; raises RateBenchError for a bad file."""
    return decode(path, _File).row


def of(key: str) -> list[Reported]:
    """What the paper of method `key` reports; empty where the module brings no reported.toml."""
    path = beside(key, "reported.toml")
    return [] if path is None else read(path)


@dataclass(frozen=True)
class Measured:
    """The same metric, measured: value and its standard error, and the reference's value where there is one."""

    value: float
    standard_error: float
    reference: float | None = None


@dataclass(frozen=True)
class Verdict:
    """`delta` is measured − reported; with `of_change` both are changes from the respective uncompressed network."""

    outcome: Outcome
    reason: str = ""
    delta: float | None = None
    margin: float | None = None
    of_change: bool = False
    unit: str = ""

    @property
    def text(self) -> str:
        """For people: "short by 1.20 points"."""
        if self.outcome != "short" or self.delta is None:
            return self.outcome
        decimals = 0 if self.unit in ("bytes", "MACs", "FLOPs") else 2
        return f"short by {abs(self.delta):,.{decimals}f} {self.unit}"


def delta(reported: Reported, measured: Measured) -> tuple[float, bool]:
    """(measured − reported, whether changes were compared).

    A paper's uncompressed network and ours rarely score the same; where both are known, it is the loss against each
    one's own start that can be replicated.
    """
    metric = METRICS[reported.metric]
    if metric.is_rate or reported.baseline is None or measured.reference is None:
        return measured.value - reported.value, False
    return (measured.value - measured.reference) - (reported.value - reported.baseline), True


def verdict(reported: Reported, measured: Measured | None, why: str = "") -> Verdict:
    """Judge one number; `why` is the reason where `measured` is None."""
    if reported.comparable:
        return Verdict("not comparable", reported.comparable)
    if reported.metric not in METRICS:
        return Verdict("not comparable", f"{reported.metric} is not measured here")
    if measured is None:
        return Verdict("not attempted", why)
    metric = METRICS[reported.metric]
    if metric.is_rate and reported.size is not None and reported.size.counts != "file":
        counted = reported.size.counts
        whose = "what the paper counts is not known" if counted == "unstated" else f"the paper counts {counted}"
        return Verdict("not comparable", f"{whose}, this suite the bytes of the whole file")
    difference, of_change = delta(reported, measured)
    margin = max(reported.tolerance or 0.0, 2 * measured.standard_error)
    outcome: Outcome
    if abs(difference) <= margin + 1e-9:  # a difference of exactly the tolerance is within it, whatever the rounding
        outcome = "replicated"
    else:
        outcome = "better" if (difference > 0) == metric.more_is_better else "short"
    return Verdict(outcome, reported.known_gap, difference, margin, of_change, metric.unit)
