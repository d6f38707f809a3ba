"""How far quality axes reach, and how curves are compared, whatever the metric."""

from __future__ import annotations

from methods.interface import Metric

VIEW = 0.10  # collapsed points would flatten the rest: the axis of a proportion ends so far from the reference
PAD = 0.003  # room at the ends of such an axis
LEAST = 0.01  # curves of proportions have to share at least as much to be compared


def view(metric: Metric) -> float | None:
    """How far from the reference, on its worse side, points are in view; None if all are."""
    return metric.scale * VIEW if metric.kind == "proportion" else None


def pad(metric: Metric) -> float:
    return round(metric.scale * PAD, 12)


def least(metric: Metric) -> float | None:
    """What range of the metric two curves have to share; None where that is a tenth of the range of both."""
    return metric.scale * LEAST if metric.kind == "proportion" else None


def axis_title(metric: Metric) -> str:
    """Its name and unit, and which direction is better where that is the unusual one."""
    unit = f", {metric.unit}" if metric.unit else ""
    return f"{metric.name}{unit}{'' if metric.more_is_better else ' (less is better)'}"
