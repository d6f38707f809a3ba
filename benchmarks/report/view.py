"""The range of quality axes and the comparison of curves, for any metric."""

from __future__ import annotations

from benchmarks.records.rows import Row
from methods.interface import Metric

VIEW = 0.10  # the axis of a proportion ends this far from the reference: collapsed points would flatten the rest
PAD = 0.003  # room at the ends of such an axis
LEAST = 0.01  # curves of proportions are compared if they share at least this range


def view(metric: Metric) -> float | None:
    """The largest distance from the reference, on its worse side, at which points are in view; None if all are."""
    return metric.scale * VIEW if metric.kind == "proportion" else None


def near(score: float, reference: Row) -> bool:
    """Whether a score is not collapsed: in view or, where all points are, within a tenth of the reference's value."""
    whole = reference.quality.value
    room = view(reference.quality.metric)
    return abs(score - whole) <= (VIEW * abs(whole) if room is None else room)


def pad(metric: Metric) -> float:
    return round(metric.scale * PAD, 12)


def least(metric: Metric) -> float | None:
    """The range of the metric that two curves have to share; None for a tenth of the range that they cover together."""
    return metric.scale * LEAST if metric.kind == "proportion" else None


def axis_title(metric: Metric) -> str:
    """The metric's name and unit, with a note if less is better."""
    unit = f", {metric.unit}" if metric.unit else ""
    return f"{metric.name}{unit}{'' if metric.more_is_better else ' (less is better)'}"
