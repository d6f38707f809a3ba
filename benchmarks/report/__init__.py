"""The report: one offline HTML page per suite, with its records as CSV and its figures as SVG and PDF beside it."""

from __future__ import annotations

from pathlib import Path


def render(suite: str, results: Path, reports: Path) -> Path:
    """Write the report of a suite's records into `reports/<suite>`, and the index over suites; return the page's path.

    The same records and code give the same bytes. Raises RateBenchError where there are no records, or where they are not
    all compared by one metric, and RecordError for a damaged one; nothing is written then.
    """
    from benchmarks.report import rendering  # plotting libraries take seconds to import: only a report pays for them

    return rendering.render(suite, results, reports)
