"""The lines of the plots, one per method × config × budget, and their look: the same in the page and in the figures.

The colour shows the family of methods, by one table for all suites, and the symbol shows method and configuration. No
information depends on colour alone: symbols differ within a suite, and lines in front have their name beside them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.records import described
from benchmarks.records.rows import Row
from benchmarks.report import names

# Colours that readers with and without deuteranopia tell apart, each at a contrast of 3 on the light and the dark page.
FAMILIES = {
    "quantisation": "#0072b2",
    "vector quantisation": "#8a63d2",
    "unstructured pruning": "#d55e00",
    "structured pruning": "#00875f",
    "low-rank factorisation": "#c8508f",
    "pruning": "#d55e00",
}
OTHER = "#6b7785"  # of a family that is not in the table
# Groups of families, for the filter; a family that is in none is in the last.
GROUPS = {
    "pruning": ("pruning", "structured pruning", "unstructured pruning", "width scaling"),
    "quantisation": ("quantisation", "vector quantisation", "entropy coding"),
    "low rank": ("low-rank factorisation", "weight sharing"),
    "others": (),
}


@dataclass(frozen=True)
class Symbol:
    """One marker: its name in Plotly, its letter in matplotlib, its outline (SVG path, about 10 units wide)."""

    plotly: str
    matplotlib: str
    path: str


SYMBOLS = (
    Symbol("circle", "o", "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z"),
    Symbol("square", "s", "M-4-4h8v8h-8z"),
    Symbol("diamond", "D", "M0-5.5 5.5 0 0 5.5-5.5 0z"),
    Symbol("triangle-up", "^", "M0-5 5.2 4h-10.4z"),
    Symbol("triangle-down", "v", "M0 5 5.2-4h-10.4z"),
    Symbol("cross", "P", "M-1.7-5h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3v-3.4h3.3z"),
    Symbol("x", "X", "M-4.7-2.3-2.3-4.7 0-2.4 2.3-4.7 4.7-2.3 2.4 0 4.7 2.3 2.3 4.7 0 2.4-2.3 4.7-4.7 2.3-2.4 0z"),
    Symbol("star", "*", "M0-5.5 1.3-1.8 5.2-1.7 2.1.7 3.2 4.4 0 2.2-3.2 4.4-2.1.7-5.2-1.7-1.3-1.8z"),
)


def grouped(families: Iterable[str]) -> dict[str, list[str]]:
    """The groups of some families, in the order of GROUPS, each with its families in the order of their names."""
    found: dict[str, list[str]] = {group: [] for group in GROUPS}
    for family in sorted(set(families)):
        found[next((group for group, own in GROUPS.items() if family in own), [*GROUPS][-1])].append(family)
    return {group: own for group, own in found.items() if own}


@dataclass(frozen=True)
class Series:
    """One line on one network's plot; `rows` are in the order in which the method yielded the points."""

    network: str
    method: str
    fidelity: str
    config: str
    budget: str
    families: tuple[str, ...]
    colour: str
    symbol: Symbol
    rows: tuple[Row, ...]

    @property
    def identity(self) -> tuple[str, str, str]:
        """Method, budget and config hash."""
        known = self.rows[0].first
        return known.method, known.budget, known.config_hash

    @property
    def more_is_better(self) -> bool:
        """Whether more of the metric by which networks are compared is better."""
        return self.rows[0].quality.metric.more_is_better

    @property
    def name(self) -> str:
        """Method, configuration (unless it is the default one without a name), budget and fidelity."""
        parts = [self.method, *([] if self.config == "default" else [self.config]), self.budget]
        return " · ".join(parts) + f" [{self.fidelity}]"


def _symbols(rows: Sequence[Row]) -> dict[tuple[str, str], Symbol]:
    """(method, config hash) -> symbol, over the whole suite: a method has the same one on every network.

    Lines of one colour share a symbol only if there are more than symbols; default configurations come first.
    """
    found: dict[tuple[str, str], Symbol] = {}
    pairs = {(described.config_text(row.first) != "default", row.first.method, row.first.config_hash) for row in rows}
    taken = Counter[str]()
    for _, method, config_hash in sorted(pairs):
        if (method, config_hash) not in found:
            colour = colour_of(families(method))
            found[method, config_hash] = SYMBOLS[taken[colour] % len(SYMBOLS)]
            taken[colour] += 1
    return found


def colour_of(families: Iterable[str]) -> str:
    """The colour of the first family that has one."""
    return next((FAMILIES[family] for family in families if family in FAMILIES), OTHER)


def families(method: str) -> tuple[str, ...]:
    """The families of a method, as its card names them; none if its code is gone."""
    card = described.card(method)
    return card.families if card else ()


def _line(row: Row) -> tuple[str | bool, ...]:
    """The properties that the rows of a line share. Lines are sorted by them: means over networks, papers and default
    configurations first.
    """
    r = row.first
    changed = described.config_text(r) != "default"
    budget = described.budget_text(r.budget, r.epochs)
    fidelity = (r.fidelity == "baseline", r.method, r.fidelity)
    return not row.over, row.network, *fidelity, changed, r.config_hash, r.budget, budget


def series(rows: Sequence[Row]) -> Iterator[Series]:
    """All lines of all networks; every row is in exactly one."""
    symbols = _symbols(rows)
    for _, members in itertools.groupby(sorted(rows, key=lambda r: (_line(r), r.first.index, r.key)), key=_line):
        line = tuple(members)
        r = line[0].first
        own, symbol = families(r.method), symbols[r.method, r.config_hash]
        config, budget = names.config(r), described.budget_text(r.budget, r.epochs)
        yield Series(line[0].network, r.method, r.fidelity, config, budget, own, colour_of(own), symbol, line)
