"""The report: one offline HTML page per suite, with its records as CSV and its figures as SVG and PDF beside it."""

from __future__ import annotations

import re
from functools import partial
from hashlib import sha256
from pathlib import Path

from benchmarks import record, storage
from benchmarks.errors import RateBenchError


def _figure_name(kind: str, network: str) -> str:
    """A file name, whatever the network is called; two networks never share one."""
    safe = re.sub(r"[^\w-]", "_", network, flags=re.ASCII)
    if safe != network:
        safe += f"-{sha256(network.encode()).hexdigest()[:8]}"
    return f"{kind}-{safe}"


def render(suite: str, results: Path, reports: Path) -> Path:
    """Write the report of a suite's records into `reports/<suite>` and return the page's path.

    The same records and code give the same bytes. Raises RateBenchError where there are no records and RecordError for
    a damaged one; nothing is written then.
    """
    # Plotting libraries take seconds to import: only a report pays for them.
    from benchmarks.report import about, cards, cells, claimed, costs, figures, frame, page, replication, series

    records = sorted(record.load(results, suite), key=lambda r: r.id)
    if not records:
        msg = f"there are no records of {suite!r} in {results}: `ratebench run {suite}` makes them"
        raise RateBenchError(msg)
    rows = frame.aggregate(records)
    references = frame.references(rows)
    lines = list(series.series(rows))
    metric = records[0].quality.metric
    drawn: dict[tuple[str, str], dict[str, bytes]] = {}  # by kind and network
    for network in sorted({line.network for line in lines}):
        own, reference = [line for line in lines if line.network == network], references.get(network)
        drawn["rate-accuracy", network] = figures.render(partial(figures.figure, metric, reference, own))
        if reference is not None and (slim := costs.narrower(reference, own)):
            drawn["macs-accuracy", network] = figures.render(partial(costs.figure, metric, reference, slim))
    comparisons = list(replication.comparisons(rows, references, {r.task for r in records}))
    contents = page.Contents(
        suite=suite,
        records=records,
        current={r.id: cards.is_current(r) for r in records},
        lines=lines,
        references=references,
        gaps=cells.gaps(results, suite, records),
        comparisons=comparisons,
        methods=about.about(rows, references, comparisons),
        claims=list(claimed.judged(rows, {r.task for r in records})),
        observations=list(claimed.observed(rows, {r.task for r in records})),
        figures={key: files.pop("page") for key, files in drawn.items()},
    )
    html = page.render(contents)
    folder = reports / suite
    for (kind, network), files in drawn.items():
        for suffix, content in files.items():
            storage.write(folder / f"{_figure_name(kind, network)}.{suffix}", content)
    storage.write(folder / "records.csv", frame.csv(records))
    storage.write(folder / "index.html", html)
    return folder / "index.html"
