"""Cells without a result, and why: failed, unfinished, not applicable, not run yet."""

from __future__ import annotations

import contextlib
import itertools
import re
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks import configuration
from benchmarks import records as recorded
from benchmarks.errors import RateBenchError
from benchmarks.papers.missing import Planned
from benchmarks.records import Record, described, regular
from benchmarks.records.table import plain_json
from benchmarks.report import names
from benchmarks.running import params, plan, state
from benchmarks.running.cell import Cell
from methods.interface import BudgetName

LOG_BYTES = 2**20  # of a log are shown
_LABEL = re.compile(r"([0-9a-f]{8})-(.+)-s(-?\d+)")  # the folder of a cell

Status = Literal["failed", "unfinished", "not applicable", "not run"]


@dataclass(frozen=True, order=True)
class Gap:
    """Cells that differ only in their seed and lack a result for the same reason."""

    network: str
    method: str
    config: str
    budget: str
    status: Status
    reason: str
    seeds: tuple[int, ...]


def logs(results: Path, suite: str) -> dict[str, str]:
    """Id of each recorded cell -> the log of its run, of a long one the end; cells without a log file are left out.

    Logs are found in the folders of records. What is no regular file there, such as a link, is no log.
    """
    found = {}
    for folder in dict.fromkeys(path.parent for path in recorded.paths(results, suite)):
        with contextlib.suppress(OSError):
            text = regular.read_end(folder / state.LOG, LOG_BYTES).decode("utf-8", "replace")
            found[folder.relative_to(results).as_posix()] = text
    return found


def first_configs(suite: str, records: Sequence[Record]) -> set[tuple[str, str, str]]:
    """(method, budget, config hash) of the first configuration in params.yaml for each method and budget.

    If the suite or the method is not installed, or if that configuration has no record, the recorded configuration with the
    fewest changed settings is used. A configuration may have been recorded with other defaults on another network.
    """
    found = set()
    for (method, budget), members in itertools.groupby(sorted(records, key=_kind), key=_kind):
        known: dict[str, dict[str, Any]] = {}
        for r in members:
            changed = described.changes(r)
            known[r.config_hash] = min(known.get(r.config_hash, changed), changed, key=len)
        nearest = min(known, key=lambda name: (len(known[name]), name))
        try:
            wanted = configuration.changes(params.configs(suite, method, budget)[0], described.defaults(method))
        except Exception:  # a method of a third party can fail on import in any way
            wanted = known[nearest]
        found.add((method, budget, next((name for name, changed in known.items() if changed == wanted), nearest)))
    return found


def _kind(known: Record) -> tuple[str, str]:
    return known.method, known.budget


def _ended_badly(results: Path, suite: str, configs: dict[str, str]) -> Iterator[Gap]:
    """Failed and unfinished cells, found by the files in their folders; raises RecordError for a damaged cell.json."""
    for folder in recorded.cells(results, suite):
        network, method, label = folder.relative_to(results / suite).parts
        parts = _LABEL.fullmatch(label)
        if parts is None:  # nobody's cell, such as a copy
            continue
        config_hash, budget, seed = parts.groups()
        config = configs.get(f"{network}/{method}/{config_hash}-{budget}", config_hash)
        gap = Gap(network, method, config, budget, "failed", "", (int(seed),))
        if (folder / "cell.json").exists():
            ended = recorded.read_cell(folder / "cell.json")
            if ended.status == "failed":
                yield replace(gap, reason=ended.error or "no reason was recorded")
        elif recorded.points(folder):
            yield replace(
                gap, status="unfinished", reason="the cell has points, but was interrupted or is still running"
            )


def _planned(suite: str) -> Iterator[Cell | Gap]:
    """Every cell of the suite, at each budget that its method supports."""
    try:
        known = params.suite(suite)
    except RateBenchError:  # records of a suite that params.yaml no longer has can still be reported
        return
    for key in known.methods:
        found = described.card(key)
        if found is None:
            yield Gap("", key, "", "", "not run", "the method's code can't be loaded", ())
            continue
        for budget in typing.get_args(BudgetName):
            if budget in found.budgets:
                try:
                    yield from plan.cells(suite, chosen_methods=[key], budget_name=budget)
                except RateBenchError as error:
                    yield Gap("", key, "", budget, "not run", str(error), ())


def planned_cells(suite: str) -> list[Planned]:
    """The cells of the suite, for numbers of papers that no record answers; those that differ only in their seed once."""
    found = {
        _command(cell): Planned(
            cell.method, cell.task, cell.network, cell.config, cell.config_hash, cell.budget.name, _command(cell)
        )
        for cell in _planned(suite)
        if isinstance(cell, Cell)
    }
    return list(found.values())


def _not_run(results: Path, planned: Sequence[Cell | Gap], records: Sequence[Record]) -> Iterator[Gap]:
    run = {_place(r, r.budget) for r in records}
    for cell in planned:
        if isinstance(cell, Gap):
            yield cell
        elif _place(cell, cell.budget.name) not in run and not any((results / cell.id).glob("*.json")):
            unsupported = _unsupported(cell)
            status: Status = "not applicable" if unsupported else "not run"
            config = names.config(cell)
            reason = unsupported or f"no record yet: `{_command(cell)}`"
            yield Gap(cell.network, cell.method, config, cell.budget.name, status, reason, (cell.seed,))


def _place(known: Cell | Record, budget: str) -> tuple[str, str, str, str, int]:
    """Identifies a cell within its suite; a configuration is identified by its changes, not by its hash."""
    return known.network, known.method, plain_json(described.changes(known)), budget, known.seed


def _command(cell: Cell) -> str:
    """The command that makes the records of all seeds: cells that differ only in their seed share a line."""
    return cell.command.removesuffix(f" --seed {cell.seed}")


def _configs(records: Sequence[Record], planned: Sequence[Cell | Gap]) -> dict[str, str]:
    """`network/method/hash-budget`, as in the names of folders -> what the configuration is called."""
    known: list[Cell | Record] = [*(cell for cell in planned if isinstance(cell, Cell)), *records]
    budgets = (one.budget if isinstance(one, Record) else one.budget.name for one in known)
    places = (
        f"{one.network}/{one.method}/{one.config_hash}-{budget}" for one, budget in zip(known, budgets, strict=True)
    )
    return dict(zip(places, map(names.config, known), strict=True))


def _unsupported(cell: Cell) -> str | None:
    try:
        return cell.unsupported()
    except Exception as error:  # an error in a method's code must not stop the report
        return f"the method could not say whether it applies: {error}"


def gaps(results: Path, suite: str, records: Sequence[Record]) -> list[Gap]:
    """All cells without a result, failed ones first; cells that differ only in their seed are joined."""

    def alike(gap: Gap) -> tuple[int, Gap]:
        return typing.get_args(Status).index(gap.status), replace(gap, seeds=())

    planned = list(_planned(suite))
    known = (*_ended_badly(results, suite, _configs(records, planned)), *_not_run(results, planned, records))
    found = sorted(known, key=lambda gap: (alike(gap), gap.seeds))
    return [
        replace(first, seeds=tuple(seed for gap in members for seed in gap.seeds))
        for (_, first), members in itertools.groupby(found, key=alike)
    ]
