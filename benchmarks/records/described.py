"""What the installed code defines for a record (its method's card and default settings, its task's metrics), and display texts.

Records outlive code: a method or a task may be missing, renamed or broken. No function here fails because of that.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any, Protocol

import methods
from benchmarks import configuration, tasks
from benchmarks.records.schema import Record
from methods.interface import Card, Method, Metric


@functools.cache
def _method(key: str) -> Method | None:
    try:
        return methods.get(key)
    except Exception:  # a module of a third party can fail on import in any way
        return None


def card(key: str) -> Card | None:
    """The card of a method; None if the installed code has no such method."""
    method = _method(key)
    return method.CARD if method else None


class Configured(Protocol):
    """A record or a cell: each has a method and a configuration."""

    @property
    def method(self) -> str: ...

    @property
    def config(self) -> dict[str, Any]: ...

    @property
    def config_hash(self) -> str: ...


@functools.cache
def defaults(key: str) -> dict[str, Any]:
    """The default settings of a method; empty if they are not known."""
    method = _method(key)
    try:
        return configuration.plain(method.Config()) if method else {}
    except Exception:  # a `Config` of a third party can fail in any way
        return {}


def changes(known: Configured) -> dict[str, Any]:
    """The settings that differ from the method's defaults; all of them if the defaults are not known."""
    return configuration.recorded_changes(known.config, known.config_hash, defaults(known.method))


def metrics(task: str) -> tuple[Metric, ...]:
    """The metrics of a task; networks are compared by the first. Empty if the installed code has no such task."""
    try:
        return tuple(tasks.get(task).METRICS)
    except Exception:  # a task may lack a library that its module imports
        return ()


def metric(task: str, name: str) -> Metric:
    """A task's metric. If the installed code does not define it: a mean without a unit, for which higher is better."""
    known = {one.name: one for one in metrics(task)}
    return known.get(name) or Metric(name, "", "mean", "A quality measure that the installed code does not define")


def all_metrics(records: Sequence[Record]) -> list[Metric]:
    """The metrics in the records, then the others that their tasks define now. Networks are compared by the first."""
    found: dict[str, Metric] = {}
    for record in records:
        for name in record.metrics:
            found.setdefault(name, metric(record.task, name))
    for task in dict.fromkeys(record.task for record in records):
        for known in metrics(task):
            found.setdefault(known.name, known)
    return list(found.values())


def score_text(of: Metric, value: float) -> str:
    """The text of an average, with its unit: "93.10 %"; `value` is not yet multiplied by the metric's scale."""
    return f"{of.scale * value:,.{of.decimals}f} {of.unit}".rstrip()


def interval_text(of: Metric, low: float, high: float) -> str:
    """The text of an interval, without its unit: "92.10 … 94.02"; the ends are not yet multiplied by the scale."""
    return f"{of.scale * low:,.{of.decimals}f} … {of.scale * high:,.{of.decimals}f}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_short, value))}]"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def number(value: Any) -> float | None:
    """A value of a record's notes as a number; None if it is missing or something else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def named(values: dict[str, Any]) -> str:
    """`a=1, b=x`: a point or a configuration on one line."""
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items())


def config_text(known: Configured) -> str:
    """The settings that differ from the defaults, words first and lists last; "default" if there are none."""
    kinds = (str, bool, int, float)  # sorted in this order; lists are long and come last
    found = sorted(changes(known).items(), key=lambda item: [isinstance(item[1], kind) for kind in kinds], reverse=True)
    return named(dict(found)) or "default"


def budget_text(name: str, epochs: float | None) -> str:
    """The name of a budget, with its number of epochs if it has one."""
    if name == "paper":  # "paper" alone reads like a method's fidelity
        name = "paper's schedule"
    return f"{name}, {epochs:g} {'epoch' if epochs == 1 else 'epochs'}" if epochs else name


BATCHNORM = "trained with the weights, adapted to them or measured again on unlabelled items, or left as they were"


def batchnorm(record: Record) -> str:
    """How BatchNorm's statistics were set: by training, or as the settings say; a dash if they say nothing."""
    if record.epochs != 0:  # None: the paper's schedule
        return "trained, adapted" if record.config.get("storage") == "rdoq" else "trained"
    chosen = record.config.get("batchnorm", record.config.get("recalibrate"))
    if isinstance(chosen, str):
        return {"control": "adapted", "reestimate": "measured again", "none": "left"}.get(chosen, "–")
    return "–" if chosen is None else "adapted" if chosen else "left"
