"""Whether records can be compared and averaged: values that the records of one network, or of one line, must share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.errors import RecordError
from benchmarks.records.schema import Record


def check(records: Iterable[Record]) -> None:
    """Raise RecordError if records of a suite can't be compared.

    Those of one network have one task, number of uncompressed bytes and number of test items. Seeds and points of one
    method × configuration × budget also have one number of epochs and, as far as all of them name it, the same data,
    reference and settings.
    """
    known: dict[tuple[Any, ...], tuple[Any, Record]] = {}
    for r in records:
        for *place, value in (*_of_network(r), *_of_line(r)):
            first, earlier = known.setdefault(tuple(place), (value, r))
            if first != value:
                msg = (
                    f"{earlier.id} and {r.id} can't be compared: {place[-1]} {first!r} against {value!r}; "
                    "`ratebench run` measures what is out of date again, or move one of them out of the results"
                )
                raise RecordError(msg)


def _of_network(r: Record) -> Iterator[tuple[Any, ...]]:
    """(network, name of the value, value)"""
    yield r.network, "task", r.task
    yield r.network, "uncompressed bytes", r.rate.uncompressed_bytes
    yield r.network, "bits per weight known", r.rate.bits_per_weight is not None
    for name, score in r.metrics.items():
        yield r.network, f"test items of {name}", score.items


def _of_line(r: Record) -> Iterator[tuple[Any, ...]]:
    """(network, method, configuration, budget, name of the value, value)"""
    line = (r.network, r.method, r.config_hash, r.budget)
    yield *line, "epochs", r.epochs
    yield *line, "learning rate", r.learning_rate
    for name, value in r.provenance.data.items():
        yield *line, f"{name} of provenance", value
    for name, value in r.config.items():
        yield *line, f"setting {name}", value
