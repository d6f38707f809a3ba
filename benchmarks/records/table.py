"""Records as a flat table with all fields, for CSV."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pandas as pd

from benchmarks.records.schema import ROLES, Record

# Each of these dicts stays one column of JSON, because its keys differ from method to method.
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")  # the page's script has the same
_AS_JSON = {"config", "point", "notes", "versions", "data"}


def plain_json(value: Any) -> str:
    """Compact JSON that keeps the order of keys; raises ValueError for NaN and infinities."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def flat(records: Iterable[Record]) -> pd.DataFrame:
    """One row per record, in the order given, with every field of the schema; nested names are joined by dots.

    The cells are Python objects, so that a metric that one record lacks does not turn the counts of others into floats.
    """
    rows = []
    for record in records:
        row = dict(_flatten(msgspec.to_builtins(record)))
        if record.validation is None:  # its columns are those of a score
            del row["validation"]
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


def csv(records: Iterable[Record], everywhere: Mapping[str, str] = {}) -> bytes:
    """UTF-8 CSV of `flat`; floats are written so that they read back as the same double.

    A text that a spreadsheet would take for a formula begins with an apostrophe, which makes it text there.
    `everywhere` has columns that are the same in all rows, such as a suite's caution: rows may be read without the page that
    shows it.
    """
    whole = flat(records)
    table = pd.DataFrame({name: pd.Series(map(_harmless, whole[name]), dtype=object) for name in whole})
    for name, value in everywhere.items():
        table[name] = _harmless(value)
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text.encode()
