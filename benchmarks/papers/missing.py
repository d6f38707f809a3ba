"""Why no record answers a reported row, and what to run if something can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import tasks
from benchmarks.papers.matching import has, is_named
from benchmarks.papers.reported import Reported
from benchmarks.records import described
from benchmarks.records.rows import Row


@dataclass(frozen=True)
class Planned:
    """Cells that the suite plans, all seeds of one configuration, and the command that runs them."""

    method: str
    task: str
    network: str
    config: dict[str, Any]
    config_hash: str
    budget: str
    command: str


def reason(wanted: Reported, method: str, rows: Sequence[Row], planned: Sequence[Planned]) -> str:
    """What is missing for the row `wanted` about `method`: a network, a planned configuration, a record, or a point.

    `rows` are those of the method that fit the row in all but its point.
    """
    known = tasks.get(wanted.task).NETWORKS if wanted.task in tasks.names() else None
    if known is not None and not any(is_named(network, wanted.network) for network in known):
        return f"the task {wanted.task} has no network {wanted.network}"
    left = [p for p in planned if (p.method, p.task) == (method, wanted.task)]
    left = [p for p in left if is_named(p.network, wanted.network)]
    if not left:
        return f"this suite does not plan {method} on {wanted.network}"
    left = [p for p in left if wanted.budget in ("", p.budget)]
    if not left:
        return f"this suite plans no {wanted.budget} budget for {method} on {wanted.network}"
    left = [p for p in left if has(p.config, wanted.config)]
    if not left:
        return f"no planned configuration of {method} has {described.named(wanted.config)}"
    run = [(described.changes(row.first), row.first.budget) for row in rows]
    for one in left:
        if (described.changes(one), one.budget) not in run:
            return f"no record yet: `{one.command}`"
    return f"no planned configuration of {method} gives a point with {described.named(wanted.point)}"
