"""Quality at equal multiply-accumulates and, beside it, at equal bytes, of the methods that remove multiply-accumulates."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.records import described
from benchmarks.records.rows import Row
from benchmarks.report import figures, view
from benchmarks.report.envelopes import envelopes, unbeaten
from benchmarks.report.series import Series
from methods.interface import Metric

STRUCTURED = (
    "structured pruning"  # the family whose curves begin at the reference: it is the network with nothing removed
)


def narrower(reference: Row, lines: Sequence[Series], first: Collection[tuple[str, str, str]]) -> list[Series]:
    """The lines with a point that saves at least a hundredth of the reference's MACs.

    Methods that estimate the redundancy are shown with all configurations, other methods with the points that validation
    chooses by MACs, or their configuration in `first`.
    """
    shown = [line for line in lines if estimates(line)]
    shown += [
        one.series for one in envelopes([line for line in lines if line not in shown], first, lambda row: row.macs)
    ]
    return [line for line in shown if any(removed(reference, row) >= 1 for row in line.rows)]


def estimates(line: Series) -> list[float]:
    """The share of the MACs that the network does not need, as the method estimates it at each point, in per cent.

    The method's card names the note that holds it.
    """
    card = described.card(line.method)
    note = card.estimate if card else ""
    noted = [described.number(row.first.notes.get(note)) for row in line.rows]
    return [100 * value for value in noted if value is not None]


def removed(reference: Row, row: Row) -> float:
    """Multiply-accumulates removed, in per cent of the reference's; 0 if it has none."""
    if reference.first.counted.macs == 0:
        return 0.0
    return 100 * (1 - row.macs / reference.first.counted.macs)


def figure(metric: Metric, reference: Row, lines: Sequence[Series], stored: Sequence[Series]) -> Figure:
    """One network's plot: `lines` over multiply-accumulates removed and, at the right, `stored` over bytes.

    Vertical lines are the methods' own estimates of the maximum redundancy.
    """
    noted = {line.method: values for line in lines if (values := estimates(line))}
    drawn, (macs, rate) = figures.panels(2, lines, len(noted) + 1)
    for line in lines:
        figures.draw_line(macs, line, lambda row: removed(reference, row))
        _draw_start(macs, reference, line)
    for line in stored:
        figures.draw_line(rate, line, lambda row: row.file_bytes.mean)
    for name, values in noted.items():
        label = f"estimated by {name}"
        macs.axvline(statistics.fmean(values), color="#333333", linestyle=(0, (1, 3)), linewidth=1.0, label=label)
    _draw_front(macs, lines, lambda row: row.macs, lambda row: removed(reference, row))
    _draw_front(rate, stored, lambda row: row.file_bytes.mean, lambda row: row.file_bytes.mean)
    macs.set_xlabel("multiply-accumulates removed, %")
    # Collapsed networks, and factors that cost more than what they replace, would squeeze the rest.
    near = [removed(reference, row) for line in lines for row in line.rows if view.near(row.quality.value, reference)]
    macs.set_xlim(0, 1.05 * max([share for share in near if share > 0], default=100.0))
    macs.spines["top"].set_visible(False)
    figures.draw_bytes(rate, reference)
    figures.draw_quality(rate, metric, reference, [*lines, *stored])
    figures.draw_quality(macs, metric, reference, [*lines, *stored])
    rate.set_ylabel("")
    figures.legend(drawn, 2)
    return drawn


def front(lines: Sequence[Series], cost: Callable[[Row], float]) -> list[Row]:
    """The measured points of all lines that no other one beats in cost and quality, in order of cost."""
    scored = [(row, row.quality.value) for line in lines for row in line.rows]
    return unbeaten(scored, lines[0].more_is_better, cost)


def _draw_front(
    axes: Axes, lines: Sequence[Series], cost: Callable[[Row], float], place: Callable[[Row], float]
) -> None:
    rows = front(lines, cost)
    values = [row.quality.value for row in rows]
    look: dict[str, Any] = {"color": "#000000", "alpha": 0.13, "linewidth": 5, "zorder": 0, "label": "in front"}
    axes.plot([place(row) for row in rows], values, solid_capstyle="round", **look)


def _draw_start(axes: Axes, reference: Row, line: Series) -> None:
    """A line from the reference (nothing pruned) to the first point; without it the knee would not be visible."""
    card = described.card(line.method)
    if card and STRUCTURED in card.families:
        first = min(line.rows, key=lambda row: removed(reference, row))
        places, rows = (0, removed(reference, first)), (reference, first)
        values = [row.quality.value for row in rows]
        axes.plot(places, values, color=line.colour, linewidth=figures.STROKE)
