"""Makes the files of a report from a suite's records."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import msgspec

from benchmarks import records as recorded
from benchmarks import storage
from benchmarks.errors import RateBenchError
from benchmarks.papers import answers as replications
from benchmarks.papers import claimed
from benchmarks.records import Record, described, history, latency, pictures, table
from benchmarks.records.rows import aggregate, means, references
from benchmarks.records.snapshot import snapshot
from benchmarks.report import (
    about,
    answers,
    boards,
    cells,
    costs,
    envelopes,
    figures,
    gallery,
    index,
    jinja,
    page,
    series,
)
from benchmarks.report.citation import Citation, addresses
from benchmarks.report.contents import Contents
from benchmarks.report.headline import headline
from benchmarks.running import freshness, params


def render(suite: str, results: Path, reports: Path) -> Path:
    """See `benchmarks.report.render`."""
    records = _load(suite, results)
    contents, files = _contents(suite, results, records)
    html, folder = page.render(contents), reports / suite
    for name, content in files.items():
        storage.write(folder / name, content)
    citation = contents.citation
    storage.write(folder / "records.csv", table.csv(records, citation.snapshot, contents.caution, contents.timed))
    storage.write(folder / "CITATION.cff", citation.cff())
    storage.write(folder / "index.html", html)
    summary = index.Summary(
        suite=suite,
        caution=contents.caution,
        headline=headline(contents),
        snapshot=citation.snapshot,
        commit=citation.commit,
        records=len(records),
        points=len(contents.rows),
        methods=sorted({r.method for r in records}),
        networks=contents.networks,
        last=max(r.provenance.started for r in records),
        version=jinja.version(),
        figure=next(name for name in files if name.endswith(".svg")),
    )
    storage.write(folder / index.SUMMARY, msgspec.json.format(msgspec.json.encode(summary), indent=1) + b"\n")
    index.write(reports)
    return folder / "index.html"


def _load(suite: str, results: Path) -> list[Record]:
    """The records of a suite in the order of their ids; raises RateBenchError if no report can be made of them."""
    records = recorded.load(results, suite)
    if not records:
        msg = f"there are no records of {suite!r} in {results}: `ratebench run {suite}` makes them"
        raise RateBenchError(msg)
    if len(compared := {r.metric for r in records}) > 1:
        msg = (
            f"records of {suite!r} in {results} are compared by different metrics ({', '.join(sorted(compared))}): "
            "run the cells whose metric the task no longer defines again, or move their records out of the results"
        )
        raise RateBenchError(msg)
    return records


def _contents(suite: str, results: Path, records: Sequence[Record]) -> tuple[Contents, dict[str, bytes]]:
    """The content of the page, and the figures beside it by their file names."""
    rows, tasks = aggregate(records), {r.task for r in records}
    citation = _citation(suite, results, records)
    origin, caution = f"RateBench, suite {suite}, snapshot {citation.snapshot}", citation.caution
    shown = [*means(rows, *params.averaged(suite)), *rows]
    known, lines = references(shown), list(series.series(shown))
    metrics, first = described.all_metrics(records), cells.first_configs(suite, records)
    current = freshness.current(records)
    curves = list(envelopes.envelopes(lines, first))
    answering = list(envelopes.envelopes(list(answers.taking_part(lines, known, current)), first))
    drawn: dict[tuple[str, str, str], dict[str, bytes]] = {}  # by kind, network and budget
    for network, budget in sorted({(line.network, line.rows[0].first.budget) for line in lines}):
        here = [line for line in lines if line.network == network and line.identity[1] == budget]
        reference = known.get(network)  # a line across the figure: as points it would take a part of the width
        every = [one for one in curves if one.line in here]
        own = [one.series for one in every if reference not in one.line.rows] or [one.series for one in every]
        draw = partial(figures.figure, metrics[0], reference, own)
        drawn["rate-quality", network, budget] = figures.render(draw, origin, caution)
        if reference is not None and (slim := costs.narrower(reference, here, first)):
            stored = [one.series for one in every if one.line.method in {line.method for line in slim}]
            draw = partial(costs.figure, metrics[0], reference, slim, stored)
            drawn["macs-quality", network, budget] = figures.render(draw, origin, caution)
    comparisons = list(replications.comparisons(rows, known, tasks, cells.planned_cells(suite)))
    contents = Contents(
        suite=suite,
        caution=caution,
        citation=citation,
        records=records,
        metrics=metrics,
        current=current,
        timed=latency.load(results, suite),
        lines=lines,
        first=first,
        envelopes=curves,
        boards=list(boards.boards(results, curves, known)),
        answers=list(answers.answers(results, answering, known)),
        references=known,
        gaps=cells.gaps(results, suite, records),
        logs=cells.logs(results, suite),
        comparisons=comparisons,
        methods=about.about([line for line in lines if line.identity in first], known, comparisons),
        gallery=gallery.gallery(rows, pictures.load(results, suite)),
        claims=list(claimed.judged(rows, tasks, results)),
        observations=list(claimed.observed(rows, tasks)),
        figures={key: made.pop("page") for key, made in drawn.items()},
    )
    files = {f"{_figure_name(*key)}.{suffix}": data for key, made in drawn.items() for suffix, data in made.items()}
    return contents, files


def _citation(suite: str, results: Path, records: Sequence[Record]) -> Citation:
    name = snapshot(results, suite)
    return Citation(
        suite=suite,
        snapshot=name,
        records=len(records),
        commit=history.commit(results, suite, name),
        version=jinja.version(),
        year=max(r.provenance.started for r in records)[:4],
        caution=params.caution(suite),
        **addresses(),
    )


def _figure_name(*names: str) -> str:
    """A valid file name for any names of a network and a budget; different names give different files."""
    whole = "-".join(names)
    safe = re.sub(r"[^\w-]", "_", whole, flags=re.ASCII)
    return safe if safe == whole else f"{safe}-{sha256(whole.encode()).hexdigest()[:8]}"
