"""Quality against the share of multiply-accumulates removed, with the redundancy that methods estimate."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.records import described
from benchmarks.records.rows import Row
from benchmarks.report import figures
from benchmarks.report.envelopes import envelopes
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


def figure(metric: Metric, reference: Row, lines: Sequence[Series]) -> Figure:
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
    figures.draw_quality(axes, metric, reference, lines)
    figures.legend(drawn)
    return drawn


def _draw_start(axes: Axes, reference: Row, line: Series) -> None:
    """A line from the reference (nothing pruned) to the first point; without it the knee would not be visible."""
    card = described.card(line.method)
    if card and STRUCTURED in card.families:
        first = min(line.rows, key=lambda row: removed(reference, row))
        places, rows = (0, removed(reference, first)), (reference, first)
        values = [row.quality.value for row in rows]
        axes.plot(places, values, color=line.colour, linewidth=figures.STROKE)
