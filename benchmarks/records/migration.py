"""Converts records of older schemas, as plain data, to the next schema without loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _from_1(old: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 had one metric, a count of correct predictions, and other names for uncompressed bytes and fidelity."""
    if "status" in old:  # the state of a cell: no field has changed
        return {**old, "schema": 2}
    new = {**old, "schema": 2, "fidelity": old["faithful"]}
    quality, rate = dict(old["quality"]), dict(old["rate"])
    rate["uncompressed_bytes"] = rate.pop("reference_bytes")
    name, correct, items = quality.pop("metric"), quality.pop("correct"), quality.pop("total")
    new["selection"] = quality.pop("selection", "last")
    new["metrics"] = {name: {"items": items, "total": correct, "squares": correct, **quality}}
    del new["faithful"], new["quality"]
    return {**new, "rate": rate}


STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}  # old schema -> conversion to the next one
