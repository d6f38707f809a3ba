"""Renders the page from its templates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs_version

from benchmarks.fingerprint import ROOT
from benchmarks.papers import claimed, scoreboard
from benchmarks.papers.reported import CLAIM, Reported, beside
from benchmarks.records import described
from benchmarks.records.table import plain_json
from benchmarks.report import answers, boards, jinja, latex, ledger, payload
from benchmarks.report.cells import Gap
from benchmarks.report.columns import columns
from benchmarks.report.contents import Contents
from benchmarks.report.jinja import exact, version
from benchmarks.report.series import SYMBOLS, grouped
from benchmarks.report.view import view

ROLE_NAMES = {
    "weights": "weights",
    "indices": "indices",
    "codebooks": "codebooks",
    "norm_bias": "norm and bias",
    "header": "header",
}
SCRIPTS = (
    *("base.js", "rate.js", "plot.js", "picture.js", "table.js", "reproduce.js", "drawer.js", "export.js"),
    *("tables.js", "ranking.js", "page.js"),
)
COUNTED = {
    "file": "counting the whole file",
    "weights only": "counting weights only",
    "params": "counting parameters",
    "unstated": "without a statement of what is counted",
}


def reported_value(reported: Reported) -> str:
    """A paper's number, or a dash for a statement in words."""
    return "–" if reported.metric == CLAIM else exact(reported.value)


def reported_size(reported: Reported) -> str:
    """A paper's size, with what it counts."""
    if reported.size is None:
        return "–"
    unit = {"ratio": "×", "bytes": " bytes", "params": " parameters"}[reported.size.unit]
    return f"{exact(reported.size.value)}{unit}, {COUNTED[reported.size.counts]}"


def _installs(contents: Contents) -> dict[str, str]:
    """By method: what it needs beside the suite, as a file in the repository."""
    found = {one.key: beside(one.key, "constraints.txt") for one in contents.methods if one.card}
    return {key: path.relative_to(ROOT).as_posix() for key, path in found.items() if path and path.is_relative_to(ROOT)}


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


def _cells(gaps: Iterable[Gap]) -> Counter[str]:
    """The number of cells by status: those that differ only in their seed are one gap."""
    counts = Counter[str]()
    for gap in gaps:
        counts[gap.status] += max(1, len(gap.seeds))
    return counts


def _pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """The sorted options of a menu; their labels are their values."""
    return [(name, name) for name in sorted(set(names))]


def render(contents: Contents) -> bytes:
    """The page as UTF-8 HTML, which loads no other file."""
    templates = jinja.environment()
    source = {name: jinja.source(templates, name) for name in ("page.css", *SCRIPTS)}
    citation, last = contents.citation, max(r.provenance.started for r in contents.records)
    known = [m.card for m in contents.methods if m.card]
    facts = {
        "suite": contents.suite,
        "caution": contents.caution,
        "snapshot": citation.snapshot,
        "commit": citation.commit,
        "year": citation.year,
        "cited": citation.fields,
        "roleNames": ROLE_NAMES,
        "papers": {card.key: entry for card in known if (entry := latex.paper_entry(card))},
        "installs": _installs(contents),
        "tex": latex.TEX,
        "texLast": latex.LAST,
    }
    text = templates.get_template("page.html.j2").render(
        contents=contents,
        methods=contents.methods,
        metric=contents.metric,
        networks=contents.networks,
        stale=contents.stale,
        outdone=contents.outdone,
        columns=columns(contents.metrics, contents.has_weights, contents.timed),
        limited=view(contents.metric) is not None,
        families=grouped(family for line in contents.lines for family in line.families),
        budgets=[
            (name, described.budget_text(name, None))
            for name in dict.fromkeys(board.budget for board in contents.boards)
        ],
        losses=list(dict.fromkeys(lost.words for board in contents.boards for lost in board.losses)),
        fidelities=_pairs(line.fidelity for line in contents.lines),
        ratios=[ratio for ratio in boards.RATIOS if any(board.rates[ratio] for board in contents.boards)],
        symbols=SYMBOLS,
        claim_groups=claimed.grouped(contents.claims),
        observation_groups=claimed.grouped(contents.observations),
        tests=claimed.tests(contents.claims),
        scoreboard=scoreboard.scoreboard(contents.comparisons, [*contents.claims, *contents.observations]),
        outcomes={"measured": scoreboard.MEASURED, "counted": scoreboard.COUNTED, "claimed": scoreboard.CLAIMED},
        answers=contents.answers,
        asked=answers.ratios(contents.has_weights),
        gap_counts=_cells(contents.gaps),
        ledger=ledger.ledger(contents.records),
        snapshot=citation.snapshot,
        version=version(),
        last=last,
        citation=citation,
        role_names=ROLE_NAMES,
        reported_size=reported_size,
        reported_value=reported_value,
        **_scripted(contents, facts, source),
    )
    return text.encode()
