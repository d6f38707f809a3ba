"""The report: one offline HTML page per suite, with its records as CSV and its figures as SVG and PDF beside it."""

from __future__ import annotations

import re
from functools import partial
from hashlib import sha256
from pathlib import Path

import msgspec

from benchmarks import record, storage
from benchmarks.errors import RateBenchError
from benchmarks.running import plan


def _figure_name(*names: str) -> str:
    """A file name, whatever a network or a budget is called; two never share one."""
    whole = "-".join(names)
    safe = re.sub(r"[^\w-]", "_", whole, flags=re.ASCII)
    return safe if safe == whole else f"{safe}-{sha256(whole.encode()).hexdigest()[:8]}"


def render(suite: str, results: Path, reports: Path) -> Path:
    """Write the report of a suite's records into `reports/<suite>`, and the index over suites; return the page's path.

    The same records and code give the same bytes. Raises RateBenchError where there are no records and RecordError for
    a damaged one; nothing is written then.
    """
    # Plotting libraries take seconds to import: only a report pays for them.
    from benchmarks.papers import claimed, replication
    from benchmarks.report import about, cards, cells, costs, figures, frame, index, page, series

    records = sorted(record.load(results, suite), key=lambda r: r.id)
    if not records:
        msg = f"there are no records of {suite!r} in {results}: `ratebench run {suite}` makes them"
        raise RateBenchError(msg)
    rows = frame.aggregate(records)
    references = frame.references(rows)
    lines = list(series.series(rows))
    metric, caution = records[0].quality.metric, plan.caution(suite)
    drawn: dict[tuple[str, str, str], dict[str, bytes]] = {}  # by kind, network and budget
    first = cells.first_configs(suite, records)
    for network, budget in sorted({(line.network, line.rows[0].first.budget) for line in lines}):
        here = [line for line in lines if line.network == network and line.identity[1] == budget]
        own = [line for line in here if line.identity in first]
        reference = references.get(network)
        if own:
            drawn["rate-accuracy", network, budget] = figures.render(
                partial(figures.figure, metric, reference, own), caution
            )
        if reference is not None and (slim := costs.narrower(reference, here, first)):
            drawn["macs-accuracy", network, budget] = figures.render(
                partial(costs.figure, metric, reference, slim), caution
            )
    comparisons = list(replication.comparisons(rows, references, {r.task for r in records}))
    contents = page.Contents(
        suite=suite,
        caution=caution,
        records=records,
        current={r.id: cards.is_current(r) for r in records},
        lines=lines,
        first=first,
        references=references,
        gaps=cells.gaps(results, suite, records),
        logs=cells.logs(results, records),
        comparisons=comparisons,
        methods=about.about([line for line in lines if line.identity in first], references, comparisons),
        claims=list(claimed.judged(rows, {r.task for r in records})),
        observations=list(claimed.observed(rows, {r.task for r in records})),
        figures={key: files.pop("page") for key, files in drawn.items()},
    )
    html = page.render(contents)
    folder = reports / suite
    for (kind, network, budget), files in drawn.items():
        for suffix, content in files.items():
            storage.write(folder / f"{_figure_name(kind, network, budget)}.{suffix}", content)
    storage.write(folder / "records.csv", frame.csv(records, caution))
    storage.write(folder / "index.html", html)
    summary = index.Summary(
        suite=suite,
        caution=caution,
        snapshot=frame.snapshot(records),
        records=len(records),
        points=len(contents.rows),
        methods=sorted({r.method for r in records}),
        networks=contents.networks,
        last=max(r.provenance.started for r in records),
        version=page.version(),
        figure=f"{_figure_name(*next(iter(drawn)))}.svg",
    )
    storage.write(folder / index.SUMMARY, msgspec.json.format(msgspec.json.encode(summary), indent=1) + b"\n")
    index.write(reports)
    return folder / "index.html"
