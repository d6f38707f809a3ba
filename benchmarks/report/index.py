"""The index of all suites: one page with a link to each suite's report."""

from __future__ import annotations

from pathlib import Path

import msgspec
from markupsafe import Markup

from benchmarks import storage
from benchmarks.errors import RateBenchError
from benchmarks.report import jinja

SUMMARY = "snapshot.json"  # in each suite's folder


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One suite's entry in the index; `figure` is the name of a file beside the suite's page."""

    suite: str
    caution: str = ""
    snapshot: str
    records: int
    points: int
    methods: list[str]
    networks: list[str]
    last: str
    version: str
    figure: str


def write(reports: Path) -> Path:
    """Render `reports/index.html` from the summaries in the suites' folders; raises RateBenchError for a damaged one."""
    found = [_read(path) for path in sorted(reports.glob(f"*/{SUMMARY}"))]
    templates = jinja.environment()
    style = Markup(jinja.source(templates, "page.css"))
    html = templates.get_template("index.html.j2").render(suites=found, style=style, version=jinja.version())
    storage.write(reports / "index.html", html.encode())
    return reports / "index.html"


def _read(path: Path) -> Summary:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Summary)
    except (OSError, msgspec.MsgspecError) as error:
        msg = f"{path} is not a summary of a report ({error}): render that suite's report again"
        raise RateBenchError(msg) from error
