"""Accuracy over multiply-accumulates removed, for methods that remove some, and what they themselves call redundant."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report import cards, figures
from benchmarks.report.frame import Row
from benchmarks.report.series import Series

ESTIMATE = "redundancy_macs"  # the note of a method that estimates what share of the MACs its network does not need
STRUCTURED = "structured pruning"  # the family whose networks are the reference where nothing is removed


def narrower(reference: Row, lines: Sequence[Series], first: Collection[tuple[str, str, str]]) -> list[Series]:
    """The lines with a point that saves a hundredth of the reference's MACs or more.

    Of a method that estimates what its network does not need all configurations, of the others those in `first`.
    """
    shown = [line for line in lines if line.identity in first or estimates(line)]
    return [line for line in shown if any(removed(reference, row) >= 1 for row in line.rows)]


def estimates(line: Series) -> list[float]:
    """What share of the MACs a method says its network does not need, at each of its points, in per cent."""
    return [100 * row.first.notes[ESTIMATE] for row in line.rows if ESTIMATE in row.first.notes]


def removed(reference: Row, row: Row) -> float:
    """Multiply-accumulates removed, in per cent of the reference's."""
    return 100 * (1 - row.over_seeds(lambda r: r.counted.macs).mean / reference.first.counted.macs)


def figure(metric: str, reference: Row, lines: Sequence[Series]) -> Figure:
    """One network's plot; vertical lines are the methods' own estimates of the maximum redundancy."""
    noted = {line.method: values for line in lines if (values := estimates(line))}
    drawn, axes = figures.column(lines, len(noted))
    for line in lines:
        figures.draw_line(axes, line, lambda row: removed(reference, row))
        _draw_start(axes, reference, line)
    for name, values in noted.items():
        label = f"estimated by {name}"
        axes.axvline(statistics.fmean(values), color="#333333", linestyle=(0, (1, 3)), linewidth=1.0, label=label)
    axes.set_xlabel("multiply-accumulates removed, %")
    axes.set_xlim(left=0)  # factors can cost more than what they replace: such points would squeeze the rest
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figures.draw_accuracy(axes, metric, reference, lines)
    figures.legend(drawn)
    return drawn


def _draw_start(axes: Axes, reference: Row, line: Series) -> None:
    """From the reference, which is what pruning nothing gives, to the first point: else the knee would not show."""
    card = cards.card(line.method)
    if card and STRUCTURED in card.families:
        first = min(line.rows, key=lambda row: removed(reference, row))
        places, rows = (0, removed(reference, first)), (reference, first)
        values = [100 * row.quality.mean for row in rows]
        axes.plot(places, values, color=line.colour, linestyle=line.dash.matplotlib, linewidth=figures.STROKE)
