"""Metrics that several tasks use: their names and how they are shown. Tasks compute the scores."""

from __future__ import annotations

from methods.interface import Metric

TOP1 = Metric(
    "top-1", "%", "proportion", "Test images that the decoded network classifies correctly", 100.0, complement="error"
)
TOP5 = Metric(
    "top-5",
    "%",
    "proportion",
    "Test images whose class is among the five that the decoded network finds most likely",
    100.0,
    complement="top-5 error",
)


def classification(classes: int) -> tuple[Metric, ...]:
    """Top-1 and, with more than ten classes, top-5."""
    return (TOP1, TOP5) if classes > 10 else (TOP1,)
