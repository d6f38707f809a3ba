"""What the code at hand says about a record: its method's card and default settings, its task's metrics; and all in words.

Records outlive code: a method or a task may be gone, renamed or broken. Nothing here fails on that.
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
    """The card of a method, None where the code at hand has none."""
    method = _method(key)
    return method.CARD if method else None


class Configured(Protocol):
    """What has a configuration of a method: a record, or a cell."""

    @property
    def method(self) -> str: ...

    @property
    def config(self) -> dict[str, Any]: ...

    @property
    def config_hash(self) -> str: ...


@functools.cache
def defaults(key: str) -> dict[str, Any]:
    """The default settings of a method; empty where they are not known."""
    method = _method(key)
    try:
        return configuration.plain(method.Config()) if method else {}
    except Exception:  # likewise
        return {}


def changes(known: Configured) -> dict[str, Any]:
    """The settings that differ from the method's defaults; all of them where the defaults are not known."""
    return configuration.recorded_changes(known.config, known.config_hash, defaults(known.method))


def metrics(task: str) -> tuple[Metric, ...]:
    """The metrics of a task, the one that networks are compared by first; empty where the code at hand has no such task."""
    try:
        return tuple(tasks.get(task).METRICS)
    except Exception:  # a task may lack a library that its module imports
        return ()


def metric(task: str, name: str) -> Metric:
    """A task's metric; one without a unit, more of which is better, where the code at hand does not know it."""
    known = {one.name: one for one in metrics(task)}
    return known.get(name) or Metric(name, "", "mean", "A quality measure that the code at hand does not know")


def all_metrics(records: Sequence[Record]) -> list[Metric]:
    """The metrics that records have, and those that their tasks have by now; the one that networks are compared by first."""
    found: dict[str, Metric] = {}
    for record in records:
        for name in record.metrics:
            found.setdefault(name, metric(record.task, name))
    for task in dict.fromkeys(record.task for record in records):
        for known in metrics(task):
            found.setdefault(known.name, known)
    return list(found.values())


def score_text(of: Metric, value: float) -> str:
    """An average of a metric as it is shown, with its unit: "93.10 %"; `value` is before the metric's scale."""
    return f"{of.scale * value:,.{of.decimals}f} {of.unit}".rstrip()


def interval_text(of: Metric, low: float, high: float) -> str:
    """The two ends of an interval likewise, without the unit: "92.10 … 94.02"."""
    return f"{of.scale * low:,.{of.decimals}f} … {of.scale * high:,.{of.decimals}f}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_short, value))}]"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def named(values: dict[str, Any]) -> str:
    """`a=1, b=x`: a point or a configuration on one line."""
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items())


def config_text(known: Configured) -> str:
    """The configuration as its differences from the default, words first and lists last; "default" where there are none."""
    kinds = (str, bool, int, float)  # the first that fits; lists are long and come last
    found = sorted(changes(known).items(), key=lambda item: [isinstance(item[1], kind) for kind in kinds], reverse=True)
    return named(dict(found)) or "default"


def budget_text(name: str, epochs: float | None) -> str:
    """A budget with its epochs, where there is a number of them."""
    if name == "paper":  # "paper" alone reads like a method's fidelity
        name = "paper's schedule"
    return f"{name}, {epochs:g} {'epoch' if epochs == 1 else 'epochs'}" if epochs else name
