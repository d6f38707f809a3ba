"""Commands about existing results: `show`, `verify`, `report`, `compare`, `snapshot`, `time`, `draw`, `decode` and `accept`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import methods
from benchmarks import bitstream, records, storage
from benchmarks.cli.app import Methods, Networks, Results, Suite, app, console, counted, say, warn
from benchmarks.cli.tables import Column, Table
from benchmarks.errors import RateBenchError, UnknownName
from benchmarks.evaluation import drawing
from benchmarks.evaluation.verify import verify as verified
from benchmarks.records import comparable, described, history, latency, pictures
from benchmarks.running import environment, params, timing
from methods.interface import Metric


@app.command()
def show(suite: Suite, results: Results = Path("results")) -> None:
    """Print the records of a suite as a table."""
    known = records.load(results, suite)
    if not known:
        raise _no_records(suite, results)
    comparable.check(known)
    metrics = described.all_metrics(known)
    columns = [column for m in metrics for column in (m.name, "95 % interval")]
    weighed = ["bits/weight"] if any(r.rate.bits_per_weight is not None for r in known) else []
    numbers = (Column(name, "right") for name in ("bytes", "ratio", *weighed, *columns))
    table = Table(Column("record"), Column("point", "prose"), *numbers)
    for r in known:
        point = ", ".join(f"{k} {v}" for k, v in r.point.items())
        bits = ["–" if r.rate.bits_per_weight is None else f"{r.rate.bits_per_weight:.3f}" for _ in weighed]
        scores = [text for metric in metrics for text in _score(metric, r.metrics.get(metric.name))]
        name = r.id.removeprefix(f"{suite}/")
        table.add(name, point, f"{r.rate.file_bytes:,}", f"{r.rate.ratio:.2f}", *bits, *scores)
    caution = params.caution(suite)
    table.print(console)
    if caution:
        say(caution)


def _no_records(suite: str, results: Path) -> RateBenchError:
    return RateBenchError(f"there are no records of {suite!r} in {results}: `ratebench run {suite}` makes them")


def _score(metric: Metric, score: records.Score | None) -> tuple[str, str]:
    """A value and its interval as text."""
    if score is None:
        return "–", "–"
    return described.score_text(metric, score.value), described.interval_text(metric, score.low, score.high)


@app.command()
def verify(suite: Suite, method: Methods = None, results: Results = Path("results")) -> None:
    """Decode and score existing artefacts again, and compare the results with their records."""
    recorded = records.stored(results, suite)
    names = {*methods.names(), *(r.method for r in recorded.values())}
    for key in method or ():
        if key not in names:
            raise UnknownName("method", key, names)
    known = {path: r for path, r in recorded.items() if not method or r.method in method}
    counts = {"same": 0, "differs": 0, "no artefact": 0}
    for verdict in verified(known, environment.device()):
        counts[verdict.outcome] += 1
        if verdict.outcome == "differs":
            warn(f"{verdict.record.id} differs: {verdict.detail}")
    say(", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
    if counts["differs"] or not counts["same"]:
        raise RateBenchError(
            f"{counted(counts['differs'], 'artefact')} with a difference from the record: see the lines above"
            if counts["differs"]
            else f"no artefact of {suite!r} is in {results}: `ratebench run {suite} --results FOLDER` makes them elsewhere"
        )


@app.command()
def report(
    suite: Suite, results: Results = Path("results"), reports: Annotated[Path, typer.Option()] = Path("reports")
) -> None:
    """Render the records of a suite as one offline HTML page, with figures and CSV beside it."""
    from benchmarks.report import render

    page = render(suite, results, reports)
    say(f"report: {page.resolve()}")


@app.command()
def compare(
    suite: Suite,
    before: Annotated[str, typer.Argument(help="A results folder, a git revision, or a snapshot.")],
    after: Annotated[str, typer.Argument(help="A results folder, a git revision, or a snapshot.")] = "results",
) -> None:
    """List the records of a suite that were added, removed or changed between two snapshots."""
    from benchmarks.records.compare import compare as compared

    found = compared(suite, before, after)
    table = Table(Column("record"), Column("bytes", "right"), Column("score", "right"))
    for sign, ones in (("−", found.gone), ("+", found.new)):
        for r in ones:
            table.add(f"{sign} {r.id}", f"{r.rate.file_bytes:,}", _total(r))
    for a, b in found.changed:
        sizes = f"{a.rate.file_bytes:,} → {b.rate.file_bytes:,}"
        table.add(f"± {a.id}", sizes, f"{_total(a)} → {_total(b)}")
    if table.rows:
        table.print(console)
    counts = f"{len(found.new)} new, {len(found.gone)} removed, {len(found.changed)} changed, {found.same} equal"
    say(f"{found.before} → {found.after}: {counts}")


def _total(r: records.Record) -> str:
    """The text of the score by which networks are compared, with the number of test items."""
    metric = described.metric(r.task, r.metric)
    return f"{described.score_text(metric, r.quality.value)}, {counted(r.quality.items, 'item')}"


@app.command("snapshot")
def find_snapshot(
    name: Annotated[str, typer.Argument(metavar="ID", help="The id in a report's footer, or its beginning.")],
    results: Results = Path("results"),
) -> None:
    """Print the first commit whose records are a snapshot: `git checkout $(ratebench snapshot ID)`."""
    found = history.find(results, name)
    warn(f"the records of suite {found.suite} in snapshot {found.id}:")
    say(found.commit)


@app.command()
def time(suite: Suite, network: Networks = None, results: Results = Path("results")) -> None:
    """Time the architectures of a suite's artefacts, one after another, on an idle machine; the report shows the latencies."""
    recorded = records.stored(results, suite)
    names = {r.network for r in recorded.values()}
    for name in network or ():
        if name not in names:
            raise UnknownName("network", name, names)
    if not names:
        raise _no_records(suite, results)
    load = timing.check_idle()
    for name in network or sorted(names):
        own = {path: r for path, r in recorded.items() if r.network == name}
        found = timing.timed(own, environment.device(), load, warn)
        artefacts = sum(len(one.artefacts) for one in found.architectures)
        path = latency.write(results, found)
        say(f"{counted(len(found.architectures), 'architecture')} of {counted(artefacts, 'artefact')}: wrote {path}")


@app.command()
def draw(
    suite: Suite,
    ratio: Annotated[float, typer.Argument(min=1, help="Of each method, the file with the closest ratio is drawn.")],
    results: Results = Path("results"),
) -> None:
    """Draw small pictures of a suite of image coding: originals, and each method's file at a ratio; the report shows them."""
    from benchmarks.running import small_pictures

    found = small_pictures.draw(suite, results, ratio, warn)
    drawn = f"{counted(len(found.artefacts), 'file')} of {counted(len(found.originals), 'picture')}"
    say(f"{drawn}: wrote {pictures.write(results, found)}")


@app.command()
def decode(
    file: Path,
    to: Annotated[
        Path | None, typer.Option(help="Write the tensors here as .safetensors, or the picture that they draw as .png.")
    ] = None,
) -> None:
    """Decode a compressed file; print its content, or export its tensors or its picture."""
    from safetensors.torch import save

    if not file.is_file():
        msg = f"there is no file {file}"
        raise RateBenchError(msg)
    data = file.read_bytes()
    network = bitstream.decode(data)
    roles = ", ".join(f"{role} {size:,}" for role, size in bitstream.bytes_by_role(data).items())
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    values = sum(tensor.numel() for tensor in tensors.values())
    say(f"{file}: {counted(len(data), 'byte')} ({roles}), {counted(values, 'value')}")
    if to is None:
        say(str(network))
        return
    if to.suffix.lower() == ".png":
        try:
            picture = drawing.png(network)
        except RateBenchError as error:
            msg = f"{file}: {error}"
            raise RateBenchError(msg) from error
        storage.write(to, picture)
    else:
        storage.write(to, save({name: tensor.clone() for name, tensor in tensors.items()}))
    say(f"wrote {to}")


@app.command()
def accept(
    revision: Annotated[str, typer.Argument(help="The git revision before the change, e.g. HEAD.")],
    why: Annotated[str, typer.Option(help="What the change does, in one sentence.")],
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Number of cells to run at a time.")] = 1,
    results: Results = Path("results"),
) -> None:
    """Show that a change of the code gives the same results, and keep existing records valid."""
    from benchmarks.running.accept import accept as accepted

    evidence = accepted(revision, why, results, say, jobs)
    if not evidence:
        say("no record depends on the change: there is nothing to accept")
        return
    points = sum(one.points for one in evidence)
    compared = f"{counted(points, 'result')} in {counted(len(evidence), 'comparison')}"
    say(f"accepted: {compared} {'is' if points == 1 else 'are'} the same; commit benchmarks/equivalents.toml")
