"""The page: everything that its templates show."""

from __future__ import annotations

import importlib.metadata
import itertools
import urllib.parse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs_version

from benchmarks.record import Record
from benchmarks.report import cards, claimed, payload
from benchmarks.report.cells import Gap
from benchmarks.report.claimed import Judged, Observed
from benchmarks.report.columns import COLUMNS, interval, percent, significant
from benchmarks.report.frame import Row, snapshot
from benchmarks.report.replication import Comparison
from benchmarks.report.series import SYMBOLS, Series
from benchmarks.reported import Reported

ROLE_NAMES = {
    "weights": "weights",
    "indices": "indices",
    "codebooks": "codebooks",
    "norm_bias": "norm and bias",
    "header": "header",
}
BAR = 60.0  # width of the bytes-by-role bar, in CSS pixels


@dataclass(frozen=True)
class Contents:
    """All that one suite's page is made of.

    `current` says of each record's id whether the code at hand would measure the same (None: it can't be told);
    `figures` maps a kind ("rate-accuracy", "macs-accuracy") and a network to an SVG.
    """

    suite: str
    records: Sequence[Record]
    current: Mapping[str, bool | None]
    lines: Sequence[Series]
    references: Mapping[str, Row]
    gaps: Sequence[Gap]
    comparisons: Sequence[Comparison]
    claims: Sequence[Judged]
    observations: Sequence[Observed]
    figures: Mapping[tuple[str, str], bytes]

    @property
    def rows(self) -> list[Row]:
        """In the order of the table: line by line."""
        return [row for line in self.lines for row in line.rows]

    @property
    def metric(self) -> str:
        """What quality is called in this suite."""
        return self.records[0].quality.metric

    @property
    def networks(self) -> list[str]:
        return list(dict.fromkeys(line.network for line in self.lines))

    @property
    def stale(self) -> set[str]:
        """Keys of rows with a seed that other code has measured; code that can't be compared is not called other."""
        return {row.key for row in self.rows if any(self.current[r.id] is False for r in row.records)}

    @property
    def silent(self) -> list[str]:
        """Methods of a paper whose numbers are not at hand."""
        own = {r.method for r in self.records if r.faithful != "baseline"}
        return sorted(own - {comparison.method for comparison in self.comparisons})

    @property
    def methods(self) -> list[dict[str, Any]]:
        """What is known of each method that has a record."""
        labels = {r.method: r.faithful for r in self.records}
        known = [(key, cards.card(key)) for key in sorted(labels)]
        return [
            {"key": key, "card": card, "faithful": labels[key], "url": cards.arxiv_url(card) if card else None}
            for key, card in known
        ]


def version() -> str:
    """The installed version of the suite."""
    try:
        return importlib.metadata.version("ratebench")
    except importlib.metadata.PackageNotFoundError:
        return "unreleased"


@dataclass(frozen=True)
class Segment:
    """One role's part of a bar: where it starts and how wide it is, in CSS pixels."""

    role: str
    start: float
    width: float


def bar(row: Row) -> list[Segment]:
    """Bytes by role as adjacent segments that fill the bar."""
    sizes = row.by_role
    ends = [round(BAR * end / sum(sizes.values()), 1) for end in itertools.accumulate(sizes.values())]
    pairs = itertools.pairwise([0.0, *ends])
    return [Segment(role, start, round(end - start, 1)) for role, (start, end) in zip(sizes, pairs, strict=True)]


def bar_text(row: Row) -> str:
    """The bar in words."""
    sizes = row.by_role
    whole = sum(sizes.values())
    return ", ".join(f"{ROLE_NAMES.get(r, r)} {size:,.0f} ({100 * size / whole:.1f} %)" for r, size in sizes.items())


def exact(value: float) -> str:
    """A paper's number with the digits that it was typed in with."""
    return f"{value:,}".removesuffix(".0")


def signed(value: float, decimals: int = 2) -> str:
    """With a sign, the minus as long as the plus."""
    return f"{value:+,.{decimals}f}".replace("-", "−")


def reported_size(reported: Reported) -> str:
    """A paper's size with its own accounting."""
    if reported.size is None:
        return "–"
    unit = {"ratio": "×", "bytes": " bytes", "params": " parameters"}[reported.size.unit]
    return f"{exact(reported.size.value)}{unit}, counting {reported.size.counts}"


def bibtex(suite: str, snapshot_id: str, year: str, note: str) -> str:
    """A BibTeX entry for the page."""
    safe = "".join(f"\\{letter}" if letter in "_%&#$" else letter for letter in suite if letter not in "{}\\")
    return (
        f"@misc{{ratebench-{snapshot_id},\n"
        f"  title  = {{RateBench: rate and accuracy of compressed neural networks, suite {safe}}},\n"
        f"  author = {{{{RateBench contributors}}}},\n"
        f"  year   = {{{year}}},\n"
        f"  note   = {{{note}}}\n}}"
    )


def image_url(svg: bytes) -> str:
    """An SVG as a data address; an image can't run scripts, whatever its texts hold."""
    return "data:image/svg+xml," + urllib.parse.quote(svg, safe=" !$()*+,-./:;=?@[]_|~'")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("benchmarks.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "significant": significant,
        "exact": exact,
        "signed": signed,
        "named": cards.named,
        "budget": lambda name: cards.budget_text(name, None),
        "image": image_url,
    }
    return environment


def _scripted(contents: Contents, source: dict[str, str]) -> dict[str, Any]:
    """The parts that are not escaped: the project's own style and scripts, and data that `payload` made safe."""
    program = source["plot.js"] + source["page.js"]
    plotly, plotly_hash = payload.plotly()
    rows = payload.rows(contents.suite, contents.metric, contents.records, contents.lines, contents.references)
    return {
        "style": Markup(source["page.css"]),
        "script": Markup(program),
        "policy": Markup(f"{payload.policy_hash(program)} {plotly_hash}"),
        "plotly": Markup(plotly),
        "plotly_version": get_plotlyjs_version(),
        "packed_records": Markup(payload.records(contents.records, contents.current)),
        "data": payload.for_script(rows),
    }


def render(contents: Contents) -> bytes:
    """The page as UTF-8 HTML that loads nothing from anywhere."""
    environment = _environment()
    assert environment.loader is not None
    source = {name: environment.loader.get_source(environment, name)[0] for name in ("page.css", "plot.js", "page.js")}
    snapshot_id, last = snapshot(contents.records), max(r.provenance.started for r in contents.records)
    note = f"Snapshot {snapshot_id}, {len(contents.records)} records, suite version {version()}"
    text = environment.get_template("page.html.j2").render(
        contents=contents,
        methods=contents.methods,
        metric=contents.metric,
        networks=contents.networks,
        stale=contents.stale,
        columns=COLUMNS,
        groups=[(name, len(list(group))) for name, group in itertools.groupby(COLUMNS, key=lambda c: c.group)],
        symbols=SYMBOLS,
        claim_groups=claimed.grouped(contents.claims),
        observation_groups=claimed.grouped(contents.observations),
        gap_counts=Counter(gap.status for gap in contents.gaps),
        snapshot=snapshot_id,
        version=version(),
        last=last,
        bibtex=bibtex(contents.suite, snapshot_id, last[:4], note),
        role_names=ROLE_NAMES,
        bar_width=BAR,
        bar=bar,
        bar_text=bar_text,
        interval=interval,
        reported_size=reported_size,
        **_scripted(contents, source),
    )
    return text.encode()
