"""In what the rows that judge a claim differ from the setting in which the paper makes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from benchmarks.papers.claims import Setting
from benchmarks.papers.matching import has
from benchmarks.records import described
from benchmarks.records.rows import Row
from benchmarks.records.schema import Record

_BUDGETS = {"paper": "its own schedule"}


def differences(paper: Setting, rows: Sequence[Row]) -> tuple[str, ...]:
    """Each difference in a few words, "network: resnet20 (paper: resnet18, resnet34)"; none if there are no rows."""
    return tuple(_differences(paper, [row.first for row in rows])) if rows else ()


def _differences(paper: Setting, records: Sequence[Record]) -> Iterator[str]:
    if any(r.fidelity == "reconstruction" for r in records):
        yield "reconstruction"
    if paper == Setting():
        yield "setting of the paper: not known"
        return
    yield from _other("task", [r.task for r in records], paper.tasks)
    yield from _other("network", [r.network for r in records], paper.networks)
    here = [described.budget_text(r.budget, r.epochs) for r in records if r.budget != paper.budget]
    yield from _other("training", here, [_BUDGETS.get(paper.budget, paper.budget)] if paper.budget else [])
    for name, value in paper.config.items():
        found = [r.config[name] for r in records if name in r.config and not has(r.config, {name: value})]
        yield from _other(name, found, [value])


def _other(what: str, here: Iterable[Any], paper: Sequence[Any]) -> Iterator[str]:
    other = ", ".join(dict.fromkeys(str(value) for value in here if value not in paper))
    if other:
        yield f"{what}: {other} (paper: {', '.join(map(str, paper)) or 'not known'})"
