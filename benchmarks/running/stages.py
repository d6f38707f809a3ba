"""The fingerprints that the stages of dvc.yaml depend on: one for each method on each network of a suite."""

from __future__ import annotations

from typing import Any

from benchmarks.fingerprint import json_hash
from benchmarks.running import params, plan


def fingerprints(suite_name: str) -> dict[str, Any]:
    """For each network and method, one hash of all cells at the suite's budgets that can be run.

    It changes if the result of one of these cells can change, and if a cell is added or removed. A method that is broken has
    none, so that only its own stages fail. A hash is stored where DVC looks for the key `network.method`: DVC treats every dot
    as a nesting level, even a dot in a network's name.
    """
    suite = params.suite(suite_name)
    keys, _ = plan.usable(suite_name)
    cells: dict[str, dict[str, str]] = {f"{network}.{key}": {} for network in suite.networks for key in keys}
    for budget in suite.budgets:
        for cell in plan.cells(suite_name, keys, budget_name=budget) if keys else ():
            if cell.unsupported() is None:
                cells[f"{cell.network}.{cell.method}"][cell.id] = cell.fingerprint()
    found: dict[str, Any] = {}
    for name, known in cells.items():
        *levels, last = name.split(".")
        place = found
        for level in levels:
            place = place.setdefault(level, {})
        place[last] = json_hash(known)[:16]
    return found
