"""The front page: what RateBench is, and the suites with a link to each one's report."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec
from markupsafe import Markup

from benchmarks import storage
from benchmarks.errors import RateBenchError
from benchmarks.report import citation, jinja

SUMMARY = "snapshot.json"  # in each suite's folder


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One suite's entry on the front page; `figure` is the name of a file beside the suite's page."""

    suite: str
    caution: str = ""
    headline: str = ""
    snapshot: str
    commit: str | None = None
    records: int
    points: int
    methods: list[str]
    networks: list[str]
    last: str
    version: str
    figure: str


def write(reports: Path) -> Path:
    """Render `reports/index.html` from the summaries in the suites' folders; raises RateBenchError for a damaged one.

    Where git ignores a suite's report, as it is one of this machine alone, the page does not name it: git has the page.
    """
    found = [_read(path) for path in _kept(sorted(reports.glob(f"*/{SUMMARY}")))]
    version, snapshots = jinja.version(), {s.suite: s.snapshot for s in found}
    templates = jinja.environment()
    html = templates.get_template("index.html.j2").render(
        suites=found,
        style=Markup(jinja.source(templates, "page.css")),
        version=version,
        bibtex=citation.overall(snapshots, version, max((s.last[:4] for s in found), default="")),
    )
    storage.write(reports / "index.html", html.encode())
    return reports / "index.html"


def _kept(paths: Sequence[Path]) -> list[Path]:
    """Without those that git ignores; all of them where there is no git checkout."""
    if not paths:
        return []
    whole = [path.resolve() for path in paths]
    command, names = ["git", "-C", str(whole[0].parent), "check-ignore", "--stdin", "-z"], "\0".join(map(str, whole))
    try:
        ignored = subprocess.run(command, input=names, capture_output=True, text=True, check=False).stdout.split("\0")
    except OSError:
        ignored = []
    return [path for path, own in zip(paths, whole, strict=True) if str(own) not in ignored]


def _read(path: Path) -> Summary:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Summary)
    except (OSError, msgspec.MsgspecError) as error:
        msg = f"{path} is not a summary of a report ({error}): render that suite's report again"
        raise RateBenchError(msg) from error
