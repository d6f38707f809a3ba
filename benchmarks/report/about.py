"""Each method's part of the page: its paper, what was done, the paper's numbers, and other ways of counting the same files."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from benchmarks.papers import answers
from benchmarks.papers.answers import Comparison
from benchmarks.papers.reported import Reported
from benchmarks.records import described
from benchmarks.records.rows import Row
from benchmarks.report import prose
from benchmarks.report.series import Series
from methods.interface import Card

_ARXIV = re.compile(r"\d{4}\.\d{4,5}(v\d+)?|[a-z-]+(\.[A-Z]{2})?/\d{7}")


@dataclass(frozen=True)
class Account:
    """One operating point: its compression ratio by bytes, by values kept and by non-zero values."""

    network: str
    point: dict[str, Any]
    bytes: float
    elements: float
    nonzero: float


@dataclass(frozen=True)
class About:
    """`done` says in short what was implemented, `details` at length (empty for a method of a single file)."""

    key: str
    fidelity: str
    card: Card | None
    url: str | None
    done: Markup
    details: Markup
    accounts: list[Account]
    answered: list[Comparison]
    open: list[Comparison]
    counted: list[Comparison]  # without training
    context: list[Reported]

    @property
    def verdicts(self) -> dict[str, int]:
        """The number of the paper's results with each verdict."""
        return dict(Counter(c.verdict.outcome for c in (*self.answered, *self.counted)).most_common())

    @property
    def silent(self) -> bool:
        """Whether the method is from a paper, but none of the paper's numbers is shown."""
        return self.fidelity != "baseline" and not (self.answered or self.open or self.counted)


def about(lines: Sequence[Series], references: dict[str, Row], comparisons: Sequence[Comparison]) -> list[About]:
    """All methods of `lines`, in the order of their names, with the compression ratios of the files in `lines`."""
    by_name = sorted(lines, key=lambda line: line.method)
    return [
        _about(key, list(own), references, comparisons)
        for key, own in itertools.groupby(by_name, lambda line: line.method)
    ]


def _about(key: str, lines: list[Series], references: dict[str, Row], comparisons: Sequence[Comparison]) -> About:
    card = described.card(key)
    own = [comparison for comparison in comparisons if comparison.method == key]
    measured = [comparison for comparison in own if not comparison.reported.is_accounting]
    rows = [row for line in lines for row in line.rows if row.network in references]
    return About(
        key=key,
        fidelity=lines[0].fidelity,
        card=card,
        url=_arxiv_url(card) if card else None,
        done=prose.docstring(key),
        details=prose.readme(key, card.title if card else ""),
        accounts=[_account(row, references[row.network]) for row in rows],
        answered=[comparison for comparison in measured if comparison.measured],
        open=[comparison for comparison in measured if not comparison.measured],
        counted=[comparison for comparison in own if comparison.reported.is_accounting],
        context=answers.context(key, {row.first.task for line in lines for row in line.rows}),
    )


def _account(row: Row, reference: Row) -> Account:
    whole = reference.first.counted.elements
    elements, nonzero = (
        row.over_seeds(lambda r: r.counted.elements).mean,
        row.over_seeds(lambda r: r.counted.nonzero).mean,
    )
    point = {**row.first.point, "budget": row.first.budget}
    return Account(row.network, point, row.ratio, whole / max(elements, 1), whole / max(nonzero, 1))


def _arxiv_url(known: Card) -> str | None:
    """The address of the paper's arXiv page; None if the card has no valid arXiv identifier."""
    return f"https://arxiv.org/abs/{known.arxiv}" if _ARXIV.fullmatch(known.arxiv) else None
