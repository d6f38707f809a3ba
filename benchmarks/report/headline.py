"""What a suite shows in one sentence for each network: the smallest files at almost the reference's quality."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.records.rows import Row
from benchmarks.report.contents import Contents
from benchmarks.report.view import least

NEAR = "1 point"  # in words: the distance `least`


def headline(contents: Contents) -> str:
    """For each network, the smallest file within 1 point of the reference, without and with training, and its method.

    Empty for metrics that are no proportions, and for networks without a reference.
    """
    room = least(contents.metric)
    if room is None:
        return ""
    sentences = (_sentence(contents, network, reference, room) for network, reference in contents.references.items())
    return " ".join(filter(None, sentences))


def _sentence(contents: Contents, network: str, reference: Row, room: float) -> str:
    sign = 1 if contents.metric.more_is_better else -1
    near = [
        row
        for row in contents.rows
        if row.first.network == network
        and row is not reference
        and sign * (reference.quality.value - row.quality.value) <= room
    ]
    kinds = {
        "without training": [row for row in near if row.first.epochs == 0],
        "with training": [row for row in near if row.first.epochs != 0],
    }
    found = [f"{_smallest(rows)} {kind}" for kind, rows in kinds.items() if rows]
    if not found:
        return ""
    return f"{network}, at most {NEAR} below the reference: the smallest file is {', and '.join(found)}."


def _smallest(rows: Sequence[Row]) -> str:
    best = min(rows, key=lambda row: row.file_bytes.mean)
    return f"{best.file_bytes.mean:,.0f} bytes ({best.ratio:.1f}×) by {best.first.method}"
