"""Curves that papers report for other methods: what is measured here can be compared with a whole curve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import methods
from benchmarks.papers import answers
from benchmarks.papers.matching import is_named
from benchmarks.papers.reported import Reported
from benchmarks.records.rows import Row
from methods.interface import Metric


@dataclass(frozen=True)
class Curve:
    """`points` are (bytes of the file, score in the metric's unit) on a network of the page."""

    name: str
    network: str
    points: tuple[tuple[float, float], ...]


def curves(rows: Iterable[Row], metric: Metric) -> Iterator[Curve]:
    """The reported curves of the networks of `rows`.

    A curve that a paper averages over several networks stands beside the mean over as many networks, and nowhere else.
    """
    places = {row.network: row for row in rows}
    for key in methods.names():
        names = dict.fromkeys(one.curve for one in answers.reported_by(key) if one.curve)
        for name in names:
            points = [one for one in answers.reported_by(key) if one.curve == name]
            for network, row in places.items():
                found = tuple(_point(one, row, metric) for one in points if _is_of(one, row, metric))
                if found:
                    yield Curve(f"{name}, reported with {key}", network, found)


def _is_of(one: Reported, row: Row, metric: Metric) -> bool:
    fits = one.task == row.first.task and one.mean_of == len(row.networks)
    sized = one.size is not None and one.size.unit == "ratio" and one.size.counts == "file"
    named = all(is_named(network, one.network) for network in row.networks)
    return fits and sized and named and one.metric in (metric.name, metric.complement)


def _point(one: Reported, row: Row, metric: Metric) -> tuple[float, float]:
    assert one.size is not None
    score = one.value if one.metric == metric.name else metric.scale - one.value
    return row.first.rate.uncompressed_bytes / one.size.value, score
