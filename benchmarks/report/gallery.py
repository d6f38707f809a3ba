"""Pictures that were drawn of a suite's files: photographs below each other, methods side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.records.pictures import Pictures
from benchmarks.records.rows import Row


@dataclass(frozen=True)
class Photograph:
    """An original as WebP, and of each method that has a picture, the row and the picture."""

    network: str
    original: bytes
    decoded: Mapping[str, tuple[Row, bytes]]


@dataclass(frozen=True)
class Gallery:
    """What is shown near a ratio; pictures are `width` pixels wide, or high."""

    ratio: float
    width: int
    methods: Sequence[str]
    photographs: Sequence[Photograph]


def gallery(rows: Sequence[Row], drawn: Pictures | None) -> Gallery | None:
    """The pictures of files that still have a row, the best method first; None if there are none."""
    if drawn is None:
        return None
    found: dict[str, dict[str, tuple[Row, bytes]]] = {}
    for row in rows:
        for known in row.records:
            if picture := drawn.artefacts.get(known.provenance.artefact_sha256):
                found.setdefault(row.network, {}).setdefault(row.first.method, (row, picture))
    named = sorted(found.keys() & drawn.originals.keys())
    photographs = [Photograph(name, drawn.originals[name], found[name]) for name in named]
    methods = {method for one in photographs for method in one.decoded}
    return Gallery(drawn.ratio, drawn.width, sorted(methods, key=_merit(photographs)), photographs) if methods else None


def _merit(photographs: Sequence[Photograph]) -> Callable[[str], tuple[float, str]]:
    """The key that puts the method with the best mean score first."""

    def key(method: str) -> tuple[float, str]:
        qualities = [one.decoded[method][0].quality for one in photographs if method in one.decoded]
        sign = -1 if qualities[0].metric.more_is_better else 1
        return sign * statistics.fmean(one.value for one in qualities), method

    return key
