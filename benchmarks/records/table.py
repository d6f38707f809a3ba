"""Records as a flat table with all fields, for CSV."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pandas as pd

from benchmarks.records.latency import BATCHES, Timed
from benchmarks.records.schema import ROLES, Record

_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")  # the page's script has the same
_SINGLE = (
    "speed.latency_ms_batch1",
    "speed.latency_ms_batch128",
)  # of one network alone, on a machine that was not idle
# Each of these dicts stays one column of JSON, because its keys differ from method to method.
_AS_JSON = {"config", "point", "notes", "versions", "data"}


def plain_json(value: Any) -> str:
    """Compact JSON that keeps the order of keys; raises ValueError for NaN and infinities."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def flat(records: Iterable[Record]) -> pd.DataFrame:
    """One row per record, in the order given, with the fields of the schema; nested names are joined by dots.

    Latencies are left out: only those that were timed together can be compared (`latency`).

    The cells are Python objects, so that a metric that one record lacks does not turn the counts of others into floats.
    """
    rows = []
    for record in records:
        row = dict(_flatten(msgspec.to_builtins(record)))
        if record.validation is None:  # its columns are those of a score
            del row["validation"]
        for name in _SINGLE:
            row.pop(name, None)
        for role in ROLES:  # a role without bytes is zero, not an absent column
            row.setdefault(f"rate.by_role.{role}", 0)
        rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def _flatten(fields: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in fields.items():
        if name in _AS_JSON:
            yield prefix + name, plain_json(value)
        elif isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def csv(records: Sequence[Record], snapshot: str, caution: str, timed: Mapping[str, Timed]) -> bytes:
    """UTF-8 CSV of `flat`; floats are written so that they read back as the same double.

    `timed` holds latencies by the hash of the artefact: median, quartiles and machine become columns, if anything was timed.

    A text that a spreadsheet would take for a formula begins with an apostrophe, which makes it text there.
    The snapshot and a suite's caution become the last columns, because rows may be read without the page that shows them.
    """
    whole = flat(records)
    table = pd.DataFrame({name: pd.Series(map(_harmless, whole[name]), dtype=object) for name in whole})
    known = [timed.get(record.provenance.artefact_sha256) for record in records]
    for batch, part in itertools.product(BATCHES, ("median", "low", "high")) if timed else ():
        found = [one and one.architecture.of(batch) for one in known]
        table[f"latency_ms_batch{batch}.{part}"] = pd.Series(
            [one and getattr(one, part) for one in found], dtype=object
        )
    if timed:
        table["latency.machine"] = pd.Series([one and one.machine for one in known], dtype=object)
    table["snapshot"] = snapshot
    if caution:
        table["caution"] = _harmless(caution)
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text.encode()
