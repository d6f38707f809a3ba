"""What the page's script reads: rows as JSON, records and the plotting library compressed, all inside the page."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from benchmarks.record import Record
from benchmarks.report.columns import COLUMNS
from benchmarks.report.frame import Row, plain_json
from benchmarks.report.series import VIEW, Series


def for_script(value: Any) -> Markup:
    """JSON that may stand inside a script element: nothing in it can end the element or begin a comment."""
    text = plain_json(value)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


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


def rows(
    suite: str, metric: str, known: Sequence[Record], lines: Sequence[Series], references: Mapping[str, Row]
) -> dict[str, Any]:
    """Networks, lines and rows; numbers at full precision, in per cent where the page shows per cent.

    Rows stand in the order of the table; lines name them, and rows name records, by position.
    """
    shown = [row for line in lines for row in line.rows]
    row_position = {row.key: i for i, row in enumerate(shown)}
    record_position = {r.id: i for i, r in enumerate(known)}
    networks = dict.fromkeys(line.network for line in lines)
    return {
        "suite": suite,
        "metric": metric,
        "view": 100 * VIEW,
        "networks": [_network(name, references.get(name)) for name in networks],
        "series": [_line(line, [row_position[row.key] for row in line.rows]) for line in lines],
        "rows": [_row(row, [record_position[r.id] for r in row.records]) for row in shown],
    }


def _network(name: str, reference: Row | None) -> dict[str, Any]:
    return {"name": name, "reference": None if reference is None else 100 * reference.quality.mean}


def _line(line: Series, positions: list[int]) -> dict[str, Any]:
    return {
        "network": line.network,
        "name": line.name,
        "colour": line.colour,
        "symbol": line.symbol.plotly,
        "dash": line.dash.plotly,
        "rows": positions,
    }


def _row(row: Row, positions: list[int]) -> dict[str, Any]:
    low, high = row.interval
    quality, size = row.quality, row.file_bytes
    return {
        "key": row.key,
        "method": row.first.method,
        "values": {column.key: column.value(row) for column in COLUMNS},
        "interval": [100 * low, 100 * high],
        "qualityRange": [100 * quality.low, 100 * quality.high],
        "bytesRange": [size.low, size.high],
        "records": positions,
    }
