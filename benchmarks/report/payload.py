"""What the page's script reads: rows, records and the plotting library, compressed inside the page."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from plotly.offline import get_plotlyjs

from benchmarks.papers.replication import Comparison
from benchmarks.record import Record
from benchmarks.report import cards
from benchmarks.report.columns import COLUMNS
from benchmarks.report.frame import ROLES, Row, plain_json
from benchmarks.report.series import VIEW, Series

if TYPE_CHECKING:
    from benchmarks.report.page import Contents


def packed(text: str) -> str:
    """gzip in base64, without a date: the same text gives the same letters."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def policy_hash(script: str) -> str:
    """How a content security policy names the one script that it lets run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@functools.cache
def plotly() -> tuple[str, str]:
    """(Plotly, packed; its policy hash). 4.8 MB of text become 2 MB."""
    text: str = get_plotlyjs()
    return packed(text), policy_hash(text)


def records(known: Sequence[Record], current: Mapping[str, bool | None]) -> str:
    """All records as they are, packed; each with `current`: whether the code at hand would measure the same."""
    return packed(plain_json([{**msgspec.to_builtins(r), "current": current[r.id]} for r in known]))


def page(facts: Mapping[str, Any], contents: Contents) -> str:
    """Columns, networks, lines and rows, packed; numbers at full precision, in per cent where the page shows per cent.

    Rows name their line, and records, by position; `facts` are those of the whole page.
    """
    position, stale = {r.id: i for i, r in enumerate(contents.records)}, contents.stale
    rows = [
        _row(row, number, [position[r.id] for r in row.records], row.key in stale)
        for number, line in enumerate(contents.lines)
        for row in line.rows
    ]
    whole = {
        **facts,
        "view": 100 * VIEW,
        "roles": ROLES,
        "columns": [_column(column, contents.metric) for column in COLUMNS],
        "networks": [_network(name, contents.references.get(name)) for name in contents.networks],
        "lines": [
            {"id": name, **_line(line), "first": line.identity in contents.first}
            for name, line in zip(_names(contents.lines), contents.lines, strict=True)
        ],
        "rows": rows,
        "reported": [point for comparison in contents.comparisons if (point := _reported(comparison)) is not None],
    }
    return packed(plain_json(whole))


def _column(column: Any, metric: str) -> dict[str, Any]:
    return {
        "key": column.key,
        "group": column.group,
        "head": column.head or metric,
        "unit": column.unit,
        "help": column.help,
        "numeric": column.numeric,
        "shown": column.shown,
    }


def _network(name: str, reference: Row | None) -> dict[str, Any]:
    if reference is None:
        return {"name": name, "reference": None, "bytes": None}
    return {"name": name, "reference": 100 * reference.quality.mean, "bytes": reference.first.rate.reference_bytes}


def _names(lines: Sequence[Series]) -> list[str]:
    """What lines are called in addresses: unique within a network, without the commas that separate them."""
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
    card = cards.card(line.method)
    return {
        "network": line.network,
        "name": line.name,
        "method": line.method,
        "faithful": line.faithful,
        "families": list(card.families) if card else [],
        "budget": line.rows[0].first.budget,
        "colour": line.colour,
        "symbol": line.symbol.plotly,
        "dash": line.dash.plotly,
        "strokes": line.dash.svg,
    }


def _row(row: Row, line: int, positions: list[int], stale: bool) -> dict[str, Any]:
    low, high = row.interval
    quality, size = row.quality, row.file_bytes
    return {
        "key": row.key,
        "line": line,
        "values": [column.value(row) for column in COLUMNS],
        "texts": [column.text(row) for column in COLUMNS],
        "interval": [100 * low, 100 * high],
        "qualityRange": [100 * quality.low, 100 * quality.high],
        "bytesRange": [size.low, size.high],
        "roles": [row.by_role.get(role, 0) for role in ROLES],
        "records": positions,
        "machine": " and ".join(sorted({_machine(r) for r in row.records})),
        "stale": stale,
    }


def _machine(record: Record) -> str:
    threads = record.speed.threads
    return f"{record.speed.device}, {threads} {'thread' if threads == 1 else 'threads'} used"


def _reported(comparison: Comparison) -> dict[str, Any] | None:
    """A paper's own point, where it gives an accuracy and a size that has a place on the axis of ratios."""
    known = comparison.reported
    if known.metric not in ("top-1", "error") or known.size is None or known.size.unit != "ratio":
        return None
    return {
        "network": known.network,
        "method": known.method or comparison.method,
        "quality": known.value if known.metric == "top-1" else 100 - known.value,
        "ratio": known.size.value,
        "counts": known.size.counts,
        "source": known.source,
        "row": comparison.row.key if comparison.row else None,
    }
