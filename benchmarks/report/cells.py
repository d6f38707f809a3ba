"""Cells without a result, and why: failed, unfinished, not applicable, not run yet."""

from __future__ import annotations

import itertools
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks import configuration
from benchmarks import records as recorded
from benchmarks.errors import RateBenchError
from benchmarks.records import Record, described
from benchmarks.records.table import plain_json
from benchmarks.running import params, plan, state
from benchmarks.running.cell import Cell
from methods.interface import BudgetName

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


def logs(results: Path, records: Sequence[Record]) -> dict[str, str]:
    """Id of each record's cell -> the log of its run; cells without a log are left out."""
    ids = {record_id.rpartition("/")[0] for record_id in (r.id for r in records)}
    files = {cell_id: results / cell_id / state.LOG for cell_id in sorted(ids)}
    return {cell_id: file.read_text("utf-8", "replace") for cell_id, file in files.items() if file.exists()}


def first_configs(suite: str, records: Sequence[Record]) -> set[tuple[str, str, str]]:
    """(method, budget, config hash) of the first configuration in params.yaml for each method and budget.

    If the suite or the method is not installed, or if that configuration has no record, the recorded configuration with the
    fewest changed settings is used.
    """
    found = set()
    for (method, budget), members in itertools.groupby(sorted(records, key=_kind), key=_kind):
        known = {r.config_hash: described.changes(r) for r in members}
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
    for folder in sorted(path for path in (results / suite).glob("*/*/*") if path.is_dir()):
        network, method, label = folder.relative_to(results / suite).parts
        config_hash, _, rest = label.partition("-")
        budget, _, seed = rest.rpartition("-s")
        config = configs.get(f"{network}/{method}/{config_hash}", config_hash)
        gap = Gap(network, method, config, budget, "failed", "", (int(seed),) if seed.isdigit() else ())
        if (folder / "cell.json").exists():
            ended = recorded.read_cell(folder / "cell.json")
            if ended.status == "failed":
                yield replace(gap, reason=ended.error or "no reason was recorded")
        elif any(folder.glob("p*.json")):
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


def _not_run(results: Path, planned: Sequence[Cell | Gap], records: Sequence[Record]) -> Iterator[Gap]:
    run = {_place(r, r.budget) for r in records}
    for cell in planned:
        if isinstance(cell, Gap):
            yield cell
        elif _place(cell, cell.budget.name) not in run and not any((results / cell.id).glob("*.json")):
            unsupported = _unsupported(cell)
            status: Status = "not applicable" if unsupported else "not run"
            config = described.config_text(cell)
            reason = unsupported or f"no record yet: `{_command(cell)}`"
            yield Gap(cell.network, cell.method, config, cell.budget.name, status, reason, (cell.seed,))


def _place(known: Cell | Record, budget: str) -> tuple[str, str, str, str, int]:
    """Identifies a cell within its suite; a configuration is identified by its changes, not by its hash."""
    return known.network, known.method, plain_json(described.changes(known)), budget, known.seed


def _command(cell: Cell) -> str:
    """The command that makes the records of all seeds: cells that differ only in their seed share a line."""
    return cell.command.removesuffix(f" --seed {cell.seed}")


def _configs(records: Sequence[Record], planned: Sequence[Cell | Gap]) -> dict[str, str]:
    """`network/method/hash`, as in the names of folders -> the text of the configuration."""
    known: list[Cell | Record] = [*(cell for cell in planned if isinstance(cell, Cell)), *records]
    return {f"{k.network}/{k.method}/{k.config_hash}": described.config_text(k) for k in known}


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
