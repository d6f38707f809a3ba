"""The lines of the plots, one per method × config × budget, and their look: the same in the page and in the figures.

The colour shows the method. The first six colours are from Okabe and Ito's palette, which colour-blind readers can tell
apart. Those added at the end are as far as possible from the earlier ones in OKLab, as seen with and without deuteranopia,
at a contrast of 3 on the light and on the dark page. The symbol shows method and configuration, the dash shows the budget:
no information depends on colour alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.records import described
from benchmarks.records.rows import Row

COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999933", "#7f5fd6"),
    *("#ff00ff", "#bb1188", "#776655", "#ff0066", "#007700", "#0055ff"),
    *("#bb00ee", "#7788aa", "#3388ff", "#cc0022", "#ff44bb"),
)


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


@dataclass(frozen=True)
class Dash:
    """One line pattern, named for Plotly, matplotlib and SVG."""

    plotly: str
    matplotlib: str
    svg: str


DASHES = {
    "post-training": Dash("solid", "-", ""),
    "short": Dash("dash", "--", "5 3"),
    "paper": Dash("dashdot", "-.", "7 3 1.5 3"),
}


@dataclass(frozen=True)
class Series:
    """One line on one network's plot; `rows` are in the order in which the method yielded the points."""

    network: str
    method: str
    fidelity: str
    config: str
    budget: str
    colour: str
    symbol: Symbol
    dash: Dash
    rows: tuple[Row, ...]

    @property
    def identity(self) -> tuple[str, str, str]:
        """Method, budget and config hash."""
        known = self.rows[0].first
        return known.method, known.budget, known.config_hash

    @property
    def name(self) -> str:
        """Method, settings that differ from the defaults, budget and fidelity."""
        parts = [self.method, *([] if self.config == "default" else [self.config]), self.budget]
        return " · ".join(parts) + f" [{self.fidelity}]"


def _looks(rows: Sequence[Row]) -> dict[tuple[str, str], tuple[str, Symbol]]:
    """(method, config hash) -> colour and symbol, over the whole suite: a method looks the same on every network."""
    looks: dict[tuple[str, str], tuple[str, Symbol]] = {}
    colours = itertools.cycle(COLOURS)
    for baseline in (False, True):
        kind = [r.first for r in rows if (r.first.fidelity == "baseline") == baseline]
        colour = {method: next(colours) for method in sorted({r.method for r in kind})}
        pairs = {(r.method, described.config_text(r) != "default", r.config_hash) for r in kind}
        for position, (method, _, config_hash) in enumerate(sorted(pairs)):
            shift = position // len(SYMBOLS)  # where colours repeat, the symbols are shifted
            looks[method, config_hash] = colour[method], SYMBOLS[(position + shift) % len(SYMBOLS)]
    return looks


def _line(row: Row) -> tuple[str | bool, ...]:
    """The properties that the rows of a line share. Lines are sorted by them: papers and default configurations first."""
    r = row.first
    changed = described.config_text(r) != "default"
    budget = described.budget_text(r.budget, r.epochs)
    return r.network, r.fidelity == "baseline", r.method, r.fidelity, changed, r.config_hash, r.budget, budget


def series(rows: Sequence[Row]) -> Iterator[Series]:
    """All lines of all networks; every row is in exactly one."""
    looks = _looks(rows)
    for _, members in itertools.groupby(sorted(rows, key=lambda r: (_line(r), r.first.index, r.key)), key=_line):
        line = tuple(members)
        r = line[0].first
        colour, symbol = looks[r.method, r.config_hash]
        dash = DASHES.get(r.budget, DASHES["post-training"])
        config, budget = described.config_text(r), described.budget_text(r.budget, r.epochs)
        yield Series(r.network, r.method, r.fidelity, config, budget, colour, symbol, dash, line)
