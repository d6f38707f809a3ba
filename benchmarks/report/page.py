"""The page: everything that its templates show."""

from __future__ import annotations

import importlib.metadata
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup
from plotly.offline import get_plotlyjs_version

from benchmarks.papers import claimed
from benchmarks.papers.claimed import Judged, Observed
from benchmarks.papers.replication import Comparison
from benchmarks.papers.reported import CLAIM, Reported
from benchmarks.record import Record
from benchmarks.report import cards, latex, ledger, payload
from benchmarks.report.about import About
from benchmarks.report.cells import Gap
from benchmarks.report.columns import COLUMNS, significant
from benchmarks.report.frame import Row, plain_json, snapshot
from benchmarks.report.series import SYMBOLS, Series

ROLE_NAMES = {
    "weights": "weights",
    "indices": "indices",
    "codebooks": "codebooks",
    "norm_bias": "norm and bias",
    "header": "header",
}
SCRIPTS = ("base.js", "rate.js", "plot.js", "table.js", "drawer.js", "export.js", "ranking.js", "page.js")
RATIOS = (1, 2, 4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)  # at which lines can be ranked


@dataclass(frozen=True)
class Contents:
    """All that one suite's page is made of.

    `current` says of each record's id whether the code at hand would measure the same (None: it can't be told); `first` has
    the identities of lines that are a method's first configuration; `logs` maps cells' ids to what their runs said;
    `figures` maps a kind ("rate-accuracy", "macs-accuracy"), a network and a budget to an SVG.
    """

    suite: str
    caution: str
    records: Sequence[Record]
    current: Mapping[str, bool | None]
    lines: Sequence[Series]
    first: set[tuple[str, str, str]]
    references: Mapping[str, Row]
    gaps: Sequence[Gap]
    logs: Mapping[str, str]
    comparisons: Sequence[Comparison]
    methods: Sequence[About]
    claims: Sequence[Judged]
    observations: Sequence[Observed]
    figures: Mapping[tuple[str, str, str], bytes]

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
    def kinds(self) -> list[str]:
        """What figures there are, as their file names begin."""
        return list(dict.fromkeys(kind for kind, _, _ in self.figures))

    @property
    def further(self) -> bool:
        """Whether a method has more than its first configuration."""
        return any(line.identity not in self.first for line in self.lines)

    @property
    def stale(self) -> set[str]:
        """Keys of rows with a seed that other code has measured; code that can't be compared is not called other."""
        return {row.key for row in self.rows if any(self.current[r.id] is False for r in row.records)}


def version() -> str:
    """The installed version of the suite."""
    try:
        return importlib.metadata.version("ratebench")
    except importlib.metadata.PackageNotFoundError:
        return "unreleased"


def exact(value: float) -> str:
    """A paper's number with the digits that it was typed in with."""
    return f"{value:,}".removesuffix(".0")


def signed(value: float, decimals: int = 2) -> str:
    """With a sign, the minus as long as the plus."""
    return f"{value:+,.{decimals}f}".replace("-", "−")


def reported_value(reported: Reported) -> str:
    """A paper's number, or a dash for what it only says in words."""
    return "–" if reported.metric == CLAIM else exact(reported.value)


def reported_size(reported: Reported) -> str:
    """A paper's size with its own accounting."""
    if reported.size is None:
        return "–"
    unit = {"ratio": "×", "bytes": " bytes", "params": " parameters"}[reported.size.unit]
    return f"{exact(reported.size.value)}{unit}, counting {reported.size.counts}"


def image_url(svg: bytes) -> str:
    """An SVG as a data address; an image can't run scripts, whatever its texts hold."""
    return "data:image/svg+xml," + urllib.parse.quote(svg, safe=" !$()*+,-./:;=?@[]_|~'")


def with_code(text: str) -> Markup:
    """What stands between backticks as code, all else as it is, escaped."""
    return Markup(MarkdownIt("zero").enable("backticks").renderInline(text))


def environment() -> jinja2.Environment:
    """Templates with the filters that they share; what is filled in is escaped."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("benchmarks.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "significant": significant,
        "exact": exact,
        "signed": signed,
        "named": cards.named,
        "budget": lambda name: cards.budget_text(name, None),
        "image": image_url,
        "with_code": with_code,
    }
    return made


def _scripted(contents: Contents, facts: dict[str, Any], source: dict[str, str]) -> dict[str, Any]:
    """The parts that are not escaped: the project's own style and scripts, and data in base64."""
    program = "".join(source[name] for name in SCRIPTS)
    plotly, plotly_hash = payload.plotly()
    return {
        "style": Markup(source["page.css"]),
        "script": Markup(program),
        "policy": Markup(f"{payload.policy_hash(program)} {plotly_hash}"),
        "plotly": Markup(plotly),
        "plotly_version": get_plotlyjs_version(),
        "packed_records": Markup(payload.records(contents.records, contents.current)),
        "packed_logs": Markup(payload.packed(plain_json(contents.logs))),
        "packed_data": Markup(payload.page(facts, contents)),
    }


def _pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Choices that are called what they are."""
    return [(name, name) for name in sorted(set(names))]


def render(contents: Contents) -> bytes:
    """The page as UTF-8 HTML that loads nothing from anywhere."""
    templates = environment()
    assert templates.loader is not None
    source = {name: templates.loader.get_source(templates, name)[0] for name in ("page.css", *SCRIPTS)}
    snapshot_id, last = snapshot(contents.records), max(r.provenance.started for r in contents.records)
    note = f"Snapshot {snapshot_id}, {len(contents.records)} records, suite version {version()}"
    if contents.caution:
        note += f". {contents.caution.removesuffix('.')}"
    known = [m.card for m in contents.methods if m.card]
    facts = {
        "suite": contents.suite,
        "caution": contents.caution,
        "metric": contents.metric,
        "snapshot": snapshot_id,
        "year": last[:4],
        "roleNames": ROLE_NAMES,
        "papers": {card.key: entry for card in known if (entry := latex.paper_entry(card))},
        "tex": latex.TEX,
        "texLast": latex.LAST,
    }
    text = templates.get_template("page.html.j2").render(
        contents=contents,
        methods=contents.methods,
        metric=contents.metric,
        networks=contents.networks,
        stale=contents.stale,
        columns=COLUMNS,
        families=_pairs(family for card in known for family in card.families),
        budgets=[(name, cards.budget_text(name, None)) for name in dict.fromkeys(r.budget for r in contents.records)],
        labels=_pairs(line.faithful for line in contents.lines),
        ratios=RATIOS,
        symbols=SYMBOLS,
        claim_groups=claimed.grouped(contents.claims),
        observation_groups=claimed.grouped(contents.observations),
        gap_counts=Counter(gap.status for gap in contents.gaps),
        ledger=ledger.ledger(contents.records),
        snapshot=snapshot_id,
        version=version(),
        last=last,
        bibtex=latex.page_entry(contents.suite, snapshot_id, last[:4], note),
        role_names=ROLE_NAMES,
        reported_size=reported_size,
        reported_value=reported_value,
        **_scripted(contents, facts, source),
    )
    return text.encode()
