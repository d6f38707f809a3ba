"""The report: one offline HTML page per suite, with its records as CSV and its figures as SVG and PDF beside it."""

from __future__ import annotations

from pathlib import Path


def render(suite: str, results: Path, reports: Path) -> Path:
    """Write the report of a suite's records into `reports/<suite>`, and the index over suites; return the page's path.

    The same records and code give the same bytes. Raises RateBenchError if there are no records or if they are compared by
    different metrics, and RecordError for a damaged record; nothing is written then.
    """
    from benchmarks.report import rendering  # plotting libraries take seconds to import: only a report pays for them

    return rendering.render(suite, results, reports)
