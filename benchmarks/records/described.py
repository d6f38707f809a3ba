"""What the code at hand says about a recorded method: its card, its default configuration, whether it is the same code.

Records outlive code: a method may be gone, renamed or broken. Nothing here fails on that; it answers None.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any, cast

import methods
from benchmarks.record import Record
from benchmarks.running.plan import Cell, plain
from methods.interface import Budget, BudgetName, Card, Method

_ARXIV = re.compile(r"\d{4}\.\d{4,5}(v\d+)?|[a-z-]+(\.[A-Z]{2})?/\d{7}")


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


def arxiv_url(known: Card) -> str | None:
    """The paper's arXiv page, None for anything that is no arXiv identifier."""
    return f"https://arxiv.org/abs/{known.arxiv}" if _ARXIV.fullmatch(known.arxiv) else None


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_short, value))}]"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def named(values: dict[str, Any]) -> str:
    """`a=1, b=x`: a point or a configuration on one line."""
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items())


def changes(key: str, config: dict[str, Any]) -> dict[str, Any]:
    """The settings that differ from the method's defaults; all of them where the defaults are not known."""
    method = _method(key)
    try:
        defaults = plain(method.Config()) if method else {}
    except Exception:  # likewise
        defaults = {}
    return {name: value for name, value in config.items() if name not in defaults or defaults[name] != value}


def config_text(key: str, config: dict[str, Any]) -> str:
    """The configuration as its differences from the default, words first and lists last; "default" where there are none."""
    kinds = (str, bool, int, float)  # the first that fits; lists are long and come last
    found = sorted(
        changes(key, config).items(), key=lambda item: [isinstance(item[1], kind) for kind in kinds], reverse=True
    )
    return named(dict(found)) or "default"


def budget_text(name: str, epochs: float | None) -> str:
    """A budget with its epochs, where they are a number that says something."""
    if name == "paper":  # "paper" alone reads like the label of a faithful method
        name = "paper's schedule"
    return f"{name}, {epochs:g} {'epoch' if epochs == 1 else 'epochs'}" if epochs else name


def _fingerprint(record: Record) -> str:
    budget = Budget(cast(BudgetName, record.budget), record.epochs)
    return Cell(
        record.suite, record.task, record.network, record.method, record.config, budget, record.seed
    ).fingerprint()


def is_current(record: Record) -> bool | None:
    """Whether the code at hand would give the record the same fingerprint; None if it can't be told."""
    try:
        return record.provenance.fingerprint == _fingerprint(record)
    except Exception:  # the method or the task is gone, or can't be imported
        return None
