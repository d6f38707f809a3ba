"""The `ratebench` command. Each verb is a few lines that call other modules."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

import methods
from benchmarks import bitstream, records, scaffold, storage, tasks
from benchmarks.data import download
from benchmarks.errors import RateBenchError, UnknownName
from benchmarks.evaluation.verify import verify as verified
from benchmarks.records import described
from benchmarks.running import environment, forecast, params, schedule, stages
from benchmarks.running.cell import Cell
from benchmarks.running.plan import cells as planned_cells
from benchmarks.running.state import leave_out, state
from benchmarks.training import processes
from methods.interface import Metric

app = typer.Typer(
    help="Measure neural-network compression: real files, decoded in a fresh process, scored and recorded.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

Suite = Annotated[str, typer.Argument(help="digits, cifar10, … (params.yaml)")]
Methods = Annotated[list[str] | None, typer.Option("--method", "-m", help="Only this method (repeatable).")]
Networks = Annotated[list[str] | None, typer.Option("--network", "-n", help="Only this network (repeatable).")]
BudgetOption = Annotated[str, typer.Option("--budget", "-b", help="post-training, short or paper.")]
Configs = Annotated[
    list[str] | None, typer.Option("--config", "-c", help="Only the configuration of this hash (repeatable).")
]
AllConfigs = Annotated[
    bool, typer.Option("--all-configs", "-a", help="All configurations in params.yaml, not only each method's first.")
]
AllBudgets = Annotated[bool, typer.Option("--all-budgets", help="Every budget of the suite in params.yaml.")]
Seeds = Annotated[list[int] | None, typer.Option("--seed", "-s", help="Only this seed (repeatable).")]
Results = Annotated[Path, typer.Option(help="The folder of records and artefacts.")]
Note = Annotated[Path | None, typer.Option(help="Write names and hashes of the results to this file, for pipelines.")]


def _plan(
    suite: str,
    method: list[str] | None,
    network: list[str] | None,
    config: list[str] | None,
    all_configs: bool,
    budget: str,
    all_budgets: bool,
    seed: list[int] | None,
) -> list[tuple[Cell, str | None]]:
    """Cells, each with the reason why it can't be run, or None; by default each method's first configuration."""
    budgets = params.suite(suite).budgets if all_budgets else [budget]
    cells = [cell for one in budgets for cell in planned_cells(suite, method or (), network or (), one, seed or ())]
    for wanted in config or ():
        if all(cell.config_hash != wanted for cell in cells):
            raise UnknownName("configuration", wanted, {cell.config_hash for cell in cells})
    if config:
        cells = [cell for cell in cells if cell.config_hash in config]
    elif not all_configs:
        cells = [cell for cell in cells if cell.config == params.configs(suite, cell.method, cell.budget.name)[0]]
    return [(cell, cell.unsupported()) for cell in cells]


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
    table = Table(
        Column("cell", no_wrap=True), "status", Column("hours", justify="right"), Column("MB", justify="right")
    )
    known, device, costs = forecast.records_at_hand(results), environment.device(), []
    for cell, reason in _plan(suite, method, network, config, all_configs, budget, all_budgets, seed):
        ended = None if reason else state(cell, results)
        if reason is not None:
            table.add_row(cell.id, escape(f"not run: {reason}"))
        elif ended is None or ended.status == "failed":
            found = forecast.cost(cell, known, device)
            costs.append(found)
            status = "to run" if ended is None else f"to run again, failed: {ended.error}"
            table.add_row(cell.id, escape(status), *_hours_and_megabytes(found))
        else:
            table.add_row(cell.id, f"{ended.status}, {_counted(ended.points, 'point')}, {ended.wall_s:.0f} s")
    console.print(table)
    if costs:
        total = [sum(getattr(c, name) for c in costs if c) for name in ("seconds", "disk_bytes")]
        unknown = f"; {costs.count(None)} without a record to estimate from" if None in costs else ""
        where = environment.gpu() or environment.cpu()
        hours, megabytes = f"{total[0] / 3600:,.1f} h", f"{total[1] / 1e6:,.0f} MB"
        console.print(f"{_counted(len(costs), 'cell')}: about {hours} on {where}, {megabytes}{unknown}")


def _counted(number: int, noun: str) -> str:
    """`1 cell`, `2 cells`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


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
    planned = _plan(suite, method, network, config, all_configs, budget, all_budgets, seed)
    todo = []
    for cell, reason in planned:
        ended = None if reason else state(cell, results)
        if reason is not None:
            leave_out(cell, results)
        elif ended is None or ended.status == "failed":
            todo.append(cell)
    todo = processes.broadcast(lambda: todo)
    done = len(planned) - len(todo)
    console.print(f"{_counted(len(planned), 'cell')}: {len(todo)} to run, {done} already recorded or not supported")
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

        def say(line: str) -> None:
            progress.console.print(escape(line), soft_wrap=True)

        for _, outcome in schedule.run(todo, results, say, jobs, fresh, address):
            failed += outcome == "failed"
            busy += outcome == "busy"
            progress.advance(bar)
    if busy:
        console.print(f"skipped {_counted(busy, 'cell')} that another process is running: run again when it has ended")
    if failed:
        cells = f"{failed} of {_counted(len(todo), 'cell')}"
        msg = f"{cells} failed: cell.json and the lines above give the reasons; run again to retry"
        raise RateBenchError(msg)
    processes.end()


@app.command()
def show(suite: Suite, results: Results = Path("results")) -> None:
    """Print the records of a suite as a table."""
    known = list(records.load(results, suite))
    if not known:
        msg = f"there are no records of {suite!r} in {results}: `ratebench run {suite}` makes them"
        raise RateBenchError(msg)
    metrics = described.all_metrics(known)
    columns = [column for m in metrics for column in (m.name, "95 % interval")]
    weighed = ["bits/weight"] if any(r.rate.bits_per_weight is not None for r in known) else []
    table = Table("record", "point", "bytes", "ratio", *weighed, *columns)
    for r in known:
        point = ", ".join(f"{k} {v}" for k, v in r.point.items())
        bits = ["–" if r.rate.bits_per_weight is None else f"{r.rate.bits_per_weight:.3f}" for _ in weighed]
        scores = [text for metric in metrics for text in _score(metric, r.metrics.get(metric.name))]
        name = r.id.removeprefix(f"{suite}/")
        table.add_row(name, escape(point), f"{r.rate.file_bytes:,}", f"{r.rate.ratio:.2f}", *bits, *scores)
    console.print(table)
    if caution := params.caution(suite):
        console.print(caution)


def _score(metric: Metric, score: records.Score | None) -> tuple[str, str]:
    """A value and its interval as text."""
    if score is None:
        return "–", "–"
    return described.score_text(metric, score.value), described.interval_text(metric, score.low, score.high)


@app.command()
def verify(suite: Suite, method: Methods = None, results: Results = Path("results")) -> None:
    """Decode and score existing artefacts again, and compare the results with their records."""
    recorded = list(records.load(results, suite))
    names = {*methods.names(), *(r.method for r in recorded)}
    for key in method or ():
        if key not in names:
            raise UnknownName("method", key, names)
    known = [r for r in recorded if not method or r.method in method]
    counts = {"same": 0, "differs": 0, "no artefact": 0}
    for verdict in verified(known, results, environment.device()):
        counts[verdict.outcome] += 1
        if verdict.outcome == "differs":
            errors.print(escape(f"{verdict.record.id} differs: {verdict.detail}"))
    console.print(", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
    if counts["differs"] or not counts["same"]:
        raise RateBenchError(
            f"{_counted(counts['differs'], 'artefact')} with a difference from the record: see the lines above"
            if counts["differs"]
            else f"no artefact of {suite!r} is in {results}: delete its records, if any, and run `ratebench run {suite}`"
        )


@app.command()
def accept(
    revision: Annotated[str, typer.Argument(help="The git revision before the change, e.g. HEAD.")],
    why: Annotated[str, typer.Option(help="What the change does, in one sentence.")],
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Number of cells to run at a time.")] = 1,
    results: Results = Path("results"),
) -> None:
    """Show that a change of the code gives the same results, and keep existing records valid."""
    from benchmarks.running.accept import accept as accepted

    evidence = accepted(revision, why, results, lambda text: console.print(escape(text), soft_wrap=True), jobs)
    if not evidence:
        console.print("no record depends on the change: there is nothing to accept")
        return
    points = sum(one.points for one in evidence)
    compared = f"{_counted(points, 'artefact')} of {_counted(len(evidence), 'cell')}"
    console.print(f"accepted: {compared} {'is' if points == 1 else 'are'} the same; commit benchmarks/equivalents.toml")


@app.command()
def decode(
    file: Path, to: Annotated[Path | None, typer.Option(help="Write the tensors here as .safetensors.")] = None
) -> None:
    """Decode a compressed file; print its content or export its tensors."""
    from safetensors.torch import save

    if not file.is_file():
        msg = f"there is no file {file}"
        raise RateBenchError(msg)
    data = file.read_bytes()
    network = bitstream.decode(data)
    roles = ", ".join(f"{role} {size:,}" for role, size in bitstream.bytes_by_role(data).items())
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    values = sum(tensor.numel() for tensor in tensors.values())
    console.print(
        escape(f"{file}: {_counted(len(data), 'byte')} ({roles}), {_counted(values, 'value')}"), soft_wrap=True
    )
    if to is None:
        console.print(escape(str(network)))
    else:
        storage.write(to, save({name: tensor.clone() for name, tensor in tensors.items()}))
        console.print(escape(f"wrote {to}"), soft_wrap=True)


@app.command()
def fetch(task: Annotated[str, typer.Argument(help="cifar10, …")], network: Networks = None, note: Note = None) -> None:
    """Download the files of a task and check their hashes; `RATEBENCH_MIRROR` (a folder or a URL) is tried first."""
    module = tasks.get(task)
    for name in network or ():
        tasks.load(task, name)
    wanted = [f for n in network for f in module.files(n)] if network else module.files()
    for file in dict.fromkeys(f.name for f in wanted):
        place = download.fetch(next(f for f in wanted if f.name == file))
        console.print(escape(f"{file}: verified in {place if place.is_dir() else place.parent}"), soft_wrap=True)
    if not wanted:
        console.print(f"{task} is embedded: nothing to fetch")
    _write(note, {file.name: file.known_hash for file in wanted})


@app.command()
def prepare(task: Annotated[str, typer.Argument(help="imagenet")], note: Note = None) -> None:
    """Unpack archives whose licence forbids automatic download (data.dvc); resumes after an interruption."""
    module = tasks.get(task)
    if not hasattr(module, "prepare"):
        console.print(f"{task} needs no preparation")
        return
    module.prepare(lambda text: console.print(escape(text), soft_wrap=True))
    _write(note, {"data": module.provenance(next(iter(module.NETWORKS)))["data"]})


@app.command()
def fingerprints(suite: Suite, note: Note = None) -> None:
    """Print a fingerprint for each method and network of a suite; the stages of dvc.yaml depend on them."""
    found = stages.fingerprints(suite)
    if note is None:
        console.print_json(data=found)
    _write(note, found)


def _write(note: Path | None, content: dict[str, Any]) -> None:
    if note is not None:
        storage.write(note, (json.dumps(content, indent=1) + "\n").encode())


@app.command("new-method")
def new_method(key: Annotated[str, typer.Argument(help="Short lower-case name, e.g. the paper's acronym.")]) -> None:
    """Write a template package for a method, with tests that fail until it is filled in."""
    for path in scaffold.new_method(key):
        console.print(f"wrote {path}")


@app.command("methods")
def list_methods() -> None:
    """List the installed methods."""
    table = Table("method", "title", "year", "fidelity", "budgets")
    for key in methods.names():
        try:
            card = methods.get(key).CARD
        except RateBenchError as error:  # one broken plug-in must not hide the others
            table.add_row(key, escape(str(error)), "", "", "")
        else:
            table.add_row(key, escape(card.title), str(card.year), card.fidelity, ", ".join(card.budgets))
    console.print(table)


@app.command()
def report(
    suite: Suite, results: Results = Path("results"), reports: Annotated[Path, typer.Option()] = Path("reports")
) -> None:
    """Render the records of a suite as one offline HTML page, with figures and CSV beside it."""
    from benchmarks.report import render

    page = render(suite, results, reports)
    console.print(escape(f"report: {page.resolve()}"), soft_wrap=True)


@app.command()
def compare(
    suite: Suite,
    before: Annotated[str, typer.Argument(help="A results folder, or a git revision.")],
    after: Annotated[str, typer.Argument(help="A results folder, or a git revision.")] = "results",
) -> None:
    """List the records of a suite that were added, removed or changed between two snapshots."""
    from benchmarks.records.compare import compare as compared

    found = compared(suite, before, after)
    table = Table("record", Column("bytes", justify="right"), Column("score", justify="right"))
    for sign, ones in (("−", found.gone), ("+", found.new)):
        for r in ones:
            table.add_row(escape(f"{sign} {r.id}"), f"{r.rate.file_bytes:,}", _total(r))
    for a, b in found.changed:
        sizes = f"{a.rate.file_bytes:,} → {b.rate.file_bytes:,}"
        table.add_row(escape(f"  {a.id}"), sizes, f"{_total(a)} → {_total(b)}")
    if table.row_count:
        console.print(table)
    counts = f"{len(found.new)} new, {len(found.gone)} removed, {len(found.changed)} changed, {found.same} equal"
    console.print(f"{found.before} → {found.after}: {counts}")


def _total(r: records.Record) -> str:
    """The text of the score by which networks are compared, with the number of test items."""
    metric = described.metric(r.task, r.metric)
    return f"{described.score_text(metric, r.quality.value)}, {_counted(r.quality.items, 'item')}"


def main() -> None:
    """Run the command. A known error prints one sentence and gives status 1; wrong usage gives 2, an interruption 130."""
    try:
        app()
    except RateBenchError as error:
        errors.print(f"error: {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except SystemExit as end:
        if end.code == 130:  # Typer's status for a KeyboardInterrupt
            errors.print("interrupted: finished records are kept; run the same command again to continue")
        raise


if __name__ == "__main__":
    main()
