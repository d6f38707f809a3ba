"""The quantities that papers report: a task's metrics, their complements, and sizes and costs of networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.records import described
from benchmarks.records.quality import Quality
from benchmarks.records.rows import Row
from methods.interface import Metric


@dataclass(frozen=True)
class Quantity:
    """How a quantity is read from rows and compared.

    `value` reads it from a row, in the unit that papers use (None if the row has no such number), and `error` reads its
    standard error. `unit` is the unit of a difference. `is_rate` marks a size: sizes are compared directly, not as changes
    from the uncompressed network. `relative` marks a quantity that is shown as the increase over the uncompressed network's, in
    per cent of it.
    """

    value: Callable[[Row], float | None]
    unit: str
    more_is_better: bool
    is_rate: bool = False
    decimals: int = 2
    error: Callable[[Row], float] = lambda row: 0.0
    relative: bool = False


SIZES = {
    "ratio": Quantity(lambda row: row.ratio, "×", True, is_rate=True),
    # 100 × (1 − size / uncompressed size)
    "size_reduction": Quantity(lambda row: 100 * (1 - 1 / row.ratio), "points", True, is_rate=True),
    "bits_per_weight": Quantity(lambda row: row.bits_per_weight, "bits", False, is_rate=True),
    # of a picture, whose uncompressed size is three bytes for each pixel
    "bits_per_pixel": Quantity(lambda row: 24 / row.ratio, "bits", False, is_rate=True, decimals=4),
    "bytes": Quantity(lambda row: row.file_bytes.mean, "bytes", False, is_rate=True, decimals=0),
    # all values / non-zero values, without zeros' places
    "parameter_ratio": Quantity(
        lambda row: 1 / row.nonzero_share if row.nonzero_share else None, "×", True, is_rate=True
    ),
    "nonzero_share": Quantity(lambda row: 100 * row.nonzero_share, "points", False),
    "macs": Quantity(lambda row: row.macs, "MACs", False, decimals=0),
    "flops": Quantity(lambda row: 2 * row.macs, "FLOPs", False, decimals=0),  # 2 × MACs
}


def find(task: str, name: str) -> Quantity | None:
    """The quantity that a paper calls `name` on a task; None if it is not measured here."""
    if name in SIZES:
        return SIZES[name]
    for metric in described.metrics(task):
        if name == metric.name:
            return _metric(metric, lambda quality: quality.value, metric.more_is_better)
        if name == metric.complement:
            return _metric(metric, lambda quality: quality.complement, not metric.more_is_better)
        if name == f"{metric.name}_increase":
            own = _metric(metric, lambda quality: quality.value, metric.more_is_better)
            return replace(own, unit="points", decimals=2, relative=True)
    return None


def _metric(metric: Metric, value: Callable[[Quality], float], more_is_better: bool) -> Quantity:
    return Quantity(
        value=lambda row: None if (found := row.score(metric.name)) is None else value(found),
        unit=metric.difference_unit,
        more_is_better=more_is_better,
        decimals=metric.decimals,
        error=lambda row: 0.0 if (found := row.score(metric.name)) is None else found.standard_error,
    )
