"""What the report calls a configuration: its name in params.yaml, else the settings that differ from the defaults."""

from __future__ import annotations

from benchmarks.records import Record, described
from benchmarks.running import params
from benchmarks.running.cell import Cell


def config(known: Cell | Record) -> str:
    """The name of a configuration; its settings if it has none. Never fails: records outlive suites and methods."""
    budget = known.budget if isinstance(known, Record) else known.budget.name
    try:
        name = params.config_name(known.suite, known.method, budget, described.changes(known))
    except Exception:  # a method of a third party can fail on import in any way
        name = ""
    return name or described.config_text(known)
