"""The input of the page's script: rows, records and the plotting library, compressed inside the page."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from plotly.offline import get_plotlyjs

from benchmarks.papers.answers import Comparison
from benchmarks.papers.curves import curves
from benchmarks.records import Record
from benchmarks.records.latency import BATCHES, Timed, of_row
from benchmarks.records.rows import Row
from benchmarks.records.schema import ROLES
from benchmarks.records.table import plain_json
from benchmarks.report.boards import Board
from benchmarks.report.columns import WHOLE, Column, columns, significant
from benchmarks.report.contents import Contents
from benchmarks.report.envelopes import labels
from benchmarks.report.series import Series, grouped
from benchmarks.report.standings import Place
from benchmarks.report.view import axis_title, least, pad, view
from methods.interface import Metric


def packed(text: str) -> str:
    """gzip in base64, without a date, so that the same text gives the same result."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def policy_hash(script: str) -> str:
    """The hash by which a content security policy allows a script to run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@functools.cache
def plotly() -> tuple[str, str]:
    """(Plotly, packed; its policy hash). 4.8 MB of text become 2 MB."""
    text: str = get_plotlyjs()
    return packed(text), policy_hash(text)


def records(known: Sequence[Record], current: Mapping[str, bool | None]) -> str:
    """All records, packed; each with `current`: whether the installed code gives it the same fingerprint."""
    return packed(plain_json([{**_shown(r), "current": current[r.id]} for r in known]))


def _shown(record: Record) -> dict[str, Any]:
    """A record without the latencies of its own run: they do not compare networks (`latency`)."""
    plain: dict[str, Any] = msgspec.to_builtins(record)
    speed = {name: value for name, value in plain["speed"].items() if not name.startswith("latency")}
    return {**plain, "speed": speed}


def page(facts: Mapping[str, Any], contents: Contents) -> str:
    """Metrics, columns, networks, lines, rows, envelopes and boards, packed.

    Numbers have full precision; scores are multiplied by their scale. Rows refer to their line and their records by
    position, envelopes to lines and rows, boards to envelopes and rows; `facts` are about the whole page.
    """
    position, stale = {r.id: i for i, r in enumerate(contents.records)}, contents.stale
    lines = {id(line): number for number, line in enumerate(contents.lines)}
    places = {row.key: number for number, row in enumerate(contents.rows)}
    known, metric = columns(contents.metrics, contents.has_weights, contents.timed), contents.metric
    rows = [
        {
            **_row(row, known, contents.metrics, row.key in stale),
            "line": number,
            "records": [position[r.id] for r in row.records],
            "machine": one.machine if (one := of_row(row, contents.timed)) else "",
            "stale": row.key in stale,
            "outdone": f"{best.first.id}, {best.quality.text}" if (best := contents.outdone.get(row.key)) else None,
        }
        for number, line in enumerate(contents.lines)
        for row in line.rows
    ]
    whole = {
        **facts,
        "metrics": [_metric(one) for one in contents.metrics],
        "axis": {"title": axis_title(metric), "view": view(metric), "pad": pad(metric), "least": least(metric)},
        "roles": ROLES,
        "whole": {column.key: WHOLE[column.unit] for column in known if column.unit in WHOLE},
        "columns": [_column(column) for column in known],
        "mean": contents.mean,
        "networks": [_network(name, contents, places) for name in contents.networks],
        "lines": [
            {"id": name, **_line(line)} for name, line in zip(_names(contents.lines), contents.lines, strict=True)
        ],
        "rows": rows,
        "envelopes": [
            {
                "line": lines[id(one.line)],
                "rows": [places[row.key] for row in one.rows],
                "others": [lines[id(other)] for other in one.others],
                "chosen": one.chosen,
                "largest": one.largest,
                "name": one.series.name,
                "label": label,
                "protocol": one.line.budget,
            }
            for one, label in zip(contents.envelopes, labels(contents.envelopes), strict=True)
        ],
        "boards": [_board(board, places) for board in contents.boards],
        "timed": {artefact: _timed(one) for artefact, one in contents.timed.items()},
        "printed": [
            {"name": one.name, "network": one.network, "points": one.points} for one in curves(contents.rows, metric)
        ],
        "reported": [point for one in contents.comparisons if (point := _reported(one, metric)) is not None],
    }
    return packed(plain_json(whole))


def _metric(metric: Metric) -> dict[str, Any]:
    """`better` is 1 if more is better, and −1 if less is better."""
    return {
        "name": metric.name,
        "unit": metric.unit,
        "differenceUnit": metric.difference_unit,
        "kind": metric.kind,
        "scale": metric.scale,
        "better": 1 if metric.more_is_better else -1,
        "decimals": metric.decimals,
    }


def _column(column: Column) -> dict[str, Any]:
    return {
        "key": column.key,
        "group": column.group,
        "head": column.head,
        "unit": column.unit,
        "help": column.help,
        "numeric": column.numeric,
        "shown": column.shown,
        "best": column.best,
        "metric": column.metric,
    }


def _network(name: str, contents: Contents, places: Mapping[str, int]) -> dict[str, Any]:
    """`row` is the place of the reference's row, and `budget` the first one with more than the reference."""
    reference, here = contents.references.get(name), [line for line in contents.lines if line.network == name]
    found = next((line for line in here if reference not in line.rows), here[0]).rows[0].first
    known = {"name": name, "budget": found.budget, "bytes": found.rate.uncompressed_bytes}
    if reference is None:
        return {**known, "reference": None, "row": None}
    return {**known, "reference": reference.quality.value, "row": places[reference.key]}


def _board(board: Board, places: Mapping[str, int]) -> dict[str, Any]:
    """A place on a curve is [envelope, row of the smaller file, row of the larger file, bytes, score]."""

    def place(number: int, at: Place) -> list[float]:
        return [number, places[at.low.key], places[at.high.key], at.bytes, at.score]

    return {
        "network": board.network,
        "budget": board.budget,
        "start": str(board.start),
        "rates": {
            ratio: [{"at": place(one.envelope, one.place), "better": one.better} for one in found]
            for ratio, found in board.rates.items()
        },
        "losses": [
            {
                "words": lost.words,
                "score": lost.score,
                "methods": [
                    {"at": place(one.envelope, one.place), "ends": one.ends, "better": one.better}
                    for one in lost.methods
                ],
            }
            for lost in board.losses
        ],
    }


def _names(lines: Sequence[Series]) -> list[str]:
    """The names of lines in addresses: unique within a network, and without commas, which separate the names."""
    names, taken = [], set[tuple[str, str]]()
    for line in lines:
        plain = ".".join((line.method, line.rows[0].first.config_hash, line.rows[0].first.budget)).replace(",", "")
        name = next(
            n for n in (plain, *(f"{plain}.{i}" for i in range(2, len(lines) + 2))) if (line.network, n) not in taken
        )
        taken.add((line.network, name))
        names.append(name)
    return names


def _line(line: Series) -> dict[str, Any]:
    return {
        "network": line.network,
        "name": line.name,
        "method": line.method,
        "fidelity": line.fidelity,
        "families": [*line.families, *(f"all {group}" for group in grouped(line.families))],
        "budget": line.rows[0].first.budget,
        "colour": line.colour,
        "symbol": line.symbol.plotly,
    }


def _row(row: Row, known: Sequence[Column], metrics: Sequence[Metric], stale: bool) -> dict[str, Any]:
    size, scores = row.file_bytes, [row.score(metric.name) for metric in metrics]
    return {
        "key": row.key,
        "values": [None if stale and column.derived else column.value(row) for column in known],
        "texts": ["–" if stale and column.derived else column.text(row) for column in known],
        "intervals": [None if score is None else score.interval for score in scores],
        "qualityRange": [row.quality.over_seeds.low, row.quality.over_seeds.high],
        "bytesRange": [size.low, size.high],
        "roles": [row.by_role.get(role, 0) for role in ROLES],
    }


def _timed(one: Timed) -> str:
    """The latency of an artefact in words, as the end of a list."""
    batches = {batch: one.architecture.of(batch) for batch in BATCHES}
    words = (
        f"batch {batch} {significant(found.median)} ms (quartiles {significant(found.low)}–{significant(found.high)} ms)"
        for batch, found in batches.items()
        if found
    )
    return f"; {', '.join(words)}, timed on an idle machine: {one.machine}"


def _reported(comparison: Comparison, metric: Metric) -> dict[str, Any] | None:
    """A paper's own point for the plot; None unless it has the metric or its complement, and its size as a ratio."""
    known = comparison.reported
    if known.metric not in (metric.name, metric.complement) or known.size is None or known.size.unit != "ratio":
        return None
    return {
        "network": known.network,
        "method": known.method or comparison.method,
        "quality": known.value if known.metric == metric.name else metric.scale - known.value,
        "ratio": known.size.value,
        "counts": known.size.counts,
        "source": known.source,
        "row": comparison.row.key if comparison.row else None,
    }
