"""`ratebench plan` and `ratebench run`: the cells of a suite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.cli.app import (
    AllBudgets,
    AllConfigs,
    BudgetOption,
    Configs,
    Methods,
    Networks,
    Results,
    Seeds,
    Suite,
    app,
    console,
    counted,
    say,
    warn,
)
from benchmarks.cli.tables import Column, Table
from benchmarks.errors import MethodError, RateBenchError, UnknownName
from benchmarks.running import environment, forecast, learning_rates, params, reference_training, schedule
from benchmarks.running.cell import Cell
from benchmarks.running.plan import cells as planned_cells
from benchmarks.running.plan import usable
from benchmarks.running.state import leave_out, state
from benchmarks.training import processes


def _plan(
    suite: str,
    method: list[str] | None,
    network: list[str] | None,
    config: list[str] | None,
    all_configs: bool,
    budget: str,
    all_budgets: bool,
    seed: list[int] | None,
) -> tuple[list[tuple[Cell, str | None]], dict[str, MethodError]]:
    """Cells, each with the reason why it can't be run, or None; by default each method's first configuration.

    Also the methods that are broken: they have no cells. If there are no others, the first one's error is raised.
    """
    keys, broken = usable(suite, method or ())
    if not keys:
        raise next(iter(broken.values()))
    budgets = params.suite(suite).budgets if all_budgets else [budget]
    planned = (planned_cells(suite, keys, network or (), one, seed or ()) for one in budgets)
    cells = [cell for found in planned for cell in found]
    for wanted in config or ():
        if all(cell.config_hash != wanted for cell in cells):
            raise UnknownName("configuration", wanted, {cell.config_hash for cell in cells})
    if config:
        cells = [cell for cell in cells if cell.config_hash in config]
    elif not all_configs:
        cells = [cell for cell in cells if cell.config == params.configs(suite, cell.method, cell.budget.name)[0]]
    return [(cell, cell.unsupported()) for cell in cells], broken


@app.command()
def plan(
    suite: Suite,
    method: Methods = None,
    network: Networks = None,
    config: Configs = None,
    all_configs: AllConfigs = False,
    budget: BudgetOption = "post-training",
    all_budgets: AllBudgets = False,
    seed: Seeds = None,
    results: Results = Path("results"),
) -> None:
    """List the cells of a suite, the status of each, and its expected cost on this machine."""
    table = Table(Column("cell"), Column("status", "prose"), Column("hours", "right"), Column("MB", "right"))
    planned, broken = _plan(suite, method, network, config, all_configs, budget, all_budgets, seed)
    known, device, costs = forecast.records_at_hand(results), environment.device(), []
    for cell, reason in planned:
        ended = None if reason else state(cell, results)
        if reason is not None:
            table.add(cell.id, f"not run: {reason}", "", "")
        elif ended is None or ended.status == "failed":
            found = forecast.cost(cell, known, device)
            costs.append(found)
            status = "to run" if ended is None else f"to run again, failed: {ended.error}"
            table.add(cell.id, status, *_hours_and_megabytes(found))
        else:
            table.add(cell.id, f"{ended.status}, {counted(ended.points, 'point')}, {ended.wall_s:.0f} s", "", "")
    for key, error in broken.items():
        table.add(f"{suite}/*/{key}", f"not run: {error}", "", "")
    for task, name in dict.fromkeys((cell.task, cell.network) for cell, _ in planned):
        hours = reference_training.hours(task, name)
        if hours is not None:
            table.add(
                f"references/{task}/{name}", f"to train first: `ratebench train {task} {name}`", f"{hours:,.2f}", ""
            )
    table.print(console)
    if costs:
        total = [sum(getattr(c, name) for c in costs if c) for name in ("seconds", "disk_bytes")]
        unknown = f"; {costs.count(None)} without a record to estimate from" if None in costs else ""
        where = environment.gpu() or environment.cpu()
        hours, megabytes = f"{total[0] / 3600:,.1f} h", f"{total[1] / 1e6:,.0f} MB"
        say(f"{counted(len(costs), 'cell')}: about {hours} on {where}, {megabytes}{unknown}")


def _hours_and_megabytes(cost: forecast.Cost | None) -> tuple[str, str]:
    return ("?", "?") if cost is None else (f"{cost.seconds / 3600:,.2f}", f"{cost.disk_bytes / 1e6:,.1f}")


@app.command()
def run(
    suite: Suite,
    method: Methods = None,
    network: Networks = None,
    config: Configs = None,
    all_configs: AllConfigs = False,
    budget: BudgetOption = "post-training",
    all_budgets: AllBudgets = False,
    seed: Seeds = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Number of cells to run at a time.")] = 1,
    address: Annotated[str | None, typer.Option("--cluster", help="Run on the Ray cluster at this address.")] = None,
    fresh: Annotated[bool, typer.Option(help="Discard checkpoints of unfinished cells.")] = False,
    results: Results = Path("results"),
) -> None:
    """Compress, write, decode in a fresh process, score and record; valid records are kept.

    `torchrun --nproc-per-node N --no-python ratebench run …` runs each cell in N processes, each with its own GPU.
    """
    processes.begin()
    if processes.count() > 1 and (jobs > 1 or address is not None):
        raise RateBenchError("torchrun starts the processes: leave out --jobs and --cluster")
    console.quiet = processes.rank() > 0
    planned, broken = _plan(suite, method, network, config, all_configs, budget, all_budgets, seed)
    for error in broken.values():
        warn(f"left out: {error}")
    todo = []
    for cell, reason in planned:
        ended = None if reason else state(cell, results)
        if reason is not None:
            leave_out(cell, results)
        elif ended is None or ended.status == "failed":
            todo.append(cell)
    todo = processes.broadcast(lambda: todo)
    done = len(planned) - len(todo)
    say(f"{counted(len(planned), 'cell')}: {len(todo)} to run, {done} already recorded or not supported")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    failed = busy = 0
    with Progress(*columns, console=console, disable=not todo) as progress:
        bar = progress.add_task(suite, total=len(todo))

        for cell, outcome in schedule.run(todo, results, say, jobs, fresh, address):
            if outcome == "complete" and (jobs > 1 or address is not None):  # other processes print nothing here
                say(f"{cell.id}: complete")
            failed += outcome == "failed"
            busy += outcome == "busy"
            progress.advance(bar)
    if busy:
        say(f"skipped {counted(busy, 'cell')} that another process is running: run again when it has ended")
    if failed:
        cells = f"{failed} of {counted(len(todo), 'cell')}"
        msg = f"{cells} failed: cell.json and the lines above give the reasons; run again to retry"
        raise RateBenchError(msg)
    if broken:
        msg = f"{' and '.join(map(repr, broken))} could not be loaded and did not run: the lines above give the reasons"
        raise RateBenchError(msg)
    processes.end()


@app.command()
def rates(
    suite: Suite,
    method: Annotated[list[str], typer.Option("--method", "-m", help="A family of methods; the first one is tried.")],
    network: Networks = None,
    budget: BudgetOption = "short",
    results: Results = Path("results"),
) -> None:
    """Choose a learning rate for a family of methods on the validation split, for `learning_rates` in params.yaml."""
    keys = list(dict.fromkeys(method))
    for cell in [learning_rates.cell(suite, keys, one, budget) for one in network or params.suite(suite).networks]:
        trial = learning_rates.tried(cell, keys, results, say)
        say(f"{cell.network}: {{{', '.join(f'{key}: {trial.chosen:g}' for key in keys)}}}")
