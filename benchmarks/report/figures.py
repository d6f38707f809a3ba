"""Rate–quality figures for papers: SVG and PDF in a column's width, the same bytes for the same records."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullFormatter

from benchmarks.records.rows import Row
from benchmarks.report.series import Series
from benchmarks.report.view import axis_title, pad, view
from methods.interface import Metric

WIDTH = 3.35  # inches: one column of a two-column paper
STROKE = 0.9  # points: the thickness of lines
LETTERS = 61  # letters that always fit into a line of the legend
_STYLE: Any = {  # matplotlib's stubs want every key as a literal
    "svg.hashsalt": "ratebench",  # otherwise, element ids are random
    "svg.fonttype": "path",  # looks the same where the font is not installed
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib
    "font.size": 6.5,
    "text.parse_math": False,  # a $ in a name is drawn as a $
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "legend.frameon": False,
}


def _bytes(value: float, _: object = None) -> str:
    """The text of a number of bytes; 1 kB = 1000 bytes."""
    if value < 1e3:
        return f"{value:g} B"
    return f"{value / 1e3:g} kB" if value < 1e6 else f"{value / 1e6:g} MB"


def _printable(text: str) -> str:
    """Text in printable characters, without an underscore in front: matplotlib hides labels that begin with one."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text)
    return f" {kept}" if kept.startswith("_") else kept


def labelled(name: str) -> str:
    """A line's name in the legend, broken to the width of the column."""
    return "\n".join(textwrap.wrap(_printable(name), LETTERS, subsequent_indent="   ", drop_whitespace=True)) or " "


def draw_line(axes: Axes, line: Series, place: Callable[[Row], float]) -> None:
    """One line with 95 % intervals; `place` gives a row's position on the x axis."""
    rows = line.rows
    bounds = [row.quality.interval for row in rows]
    values = [row.quality.value for row in rows]
    below = [max(0.0, value - low) for value, (low, _) in zip(values, bounds, strict=True)]
    above = [max(0.0, high - value) for value, (_, high) in zip(values, bounds, strict=True)]
    axes.errorbar(
        [place(row) for row in rows],
        values,
        yerr=(below, above),
        color=line.colour,
        marker=line.symbol.matplotlib,
        label=labelled(line.name),
        linewidth=STROKE,
        markersize=3,
        markeredgewidth=0,
        elinewidth=0.5,
        capsize=1,
        capthick=0.5,
    )


def draw_bytes(axes: Axes, reference: Row | None) -> None:
    """The x axis of rates: the whole file's bytes, with ratios at the top if there is a reference."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(_bytes))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("rate: bytes of the whole file")
    if reference is None:
        axes.spines["top"].set_visible(False)
    else:
        _draw_ratios(axes, reference.first.rate.uncompressed_bytes)


def draw_quality(axes: Axes, metric: Metric, reference: Row | None, lines: Sequence[Series]) -> None:
    """The y axis, up to the distance `view` on the worse side of the reference, which is a dotted line."""
    axes.set_ylabel(_printable(axis_title(metric)))
    axes.grid(alpha=0.25, linewidth=0.4)
    axes.set_axisbelow(True)
    if reference is not None:
        value, room = reference.quality.value, view(metric)
        axes.axhline(value, color="#333333", linestyle=":", linewidth=0.8, label="reference")
        if room is not None:
            bounds = [bound for line in lines for row in line.rows for bound in row.quality.interval]
            low, high = min(value, *bounds), max(value, *bounds)
            if metric.more_is_better:
                low = max(min(bounds), value - room)
            else:
                high = min(max(bounds), value + room)
            axes.set_ylim(low - pad(metric), high + pad(metric))


def _draw_ratios(axes: Axes, uncompressed_bytes: int) -> None:
    """A second x axis at the top with the same range, labelled with ratios."""
    top = axes.twiny()
    top.set_xscale("log")
    top.set_xlim(axes.get_xlim())
    low, high = axes.get_xlim()
    steps = [mantissa * 10.0**power for power in range(-1, 6) for mantissa in (1, 2, 5)]
    shown = [step for step in steps if low <= uncompressed_bytes / step <= high]
    top.xaxis.set_major_locator(FixedLocator([uncompressed_bytes / step for step in shown]))
    top.xaxis.set_major_formatter(FixedFormatter([f"{step:g}×" for step in shown]))
    top.xaxis.set_minor_locator(FixedLocator([]))
    top.set_xlabel("ratio: fp32 bytes of the reference / bytes of the file")


def figure(metric: Metric, reference: Row | None, lines: Sequence[Series]) -> Figure:
    """One network's plot: all its lines with 95 % intervals, the reference dotted, the legend below."""
    drawn, (axes,) = panels(1, lines)
    for line in lines:
        draw_line(axes, line, lambda row: row.file_bytes.mean)
    draw_quality(axes, metric, reference, lines)
    draw_bytes(axes, reference)
    legend(drawn)
    return drawn


def panels(count: int, lines: Sequence[Series], more: int = 0) -> tuple[Figure, Sequence[Axes]]:
    """A row of empty panels, each as wide as a column, that share the axis of quality.

    Below them there is room for a legend of the reference, the lines and `more` entries.
    """
    rows = 1 + more + sum(labelled(line.name).count("\n") + 1 for line in lines)
    drawn = Figure(figsize=(WIDTH * count, 2.35 + 0.125 * math.ceil(rows / count)), layout="constrained")
    return drawn, drawn.subplots(1, count, sharey=True, squeeze=False)[0]


def legend(drawn: Figure, columns: int = 1) -> None:
    """The names of all that is drawn, once each."""
    named = {
        name: handle for axes in drawn.axes for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    drawn.legend(
        named.values(),
        named.keys(),
        loc="outside lower left",
        ncols=columns,
        handlelength=3.2,
        labelspacing=0.25,
        borderpad=0,
    )


def _saved(drawn: Figure, suffix: str, origin: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None, "Description": origin} if suffix == "svg" else {"CreationDate": None, "Subject": origin}
    drawn.savefig(buffer, format=suffix, metadata=metadata)
    return buffer.getvalue()


def render(draw: Callable[[], Figure], origin: str, caution: str = "") -> dict[str, bytes]:
    """The figure as "svg" and "pdf" files, and as "page": an SVG with letters as text, which is a third as large.

    `origin` names suite and snapshot: it is the description in an SVG's metadata, and the subject in a PDF's.
    """
    files = {}

    def drawn() -> Figure:
        figure = draw()
        if caution:
            text = textwrap.fill(_printable(caution), LETTERS)
            figure.suptitle(text, x=0.02, ha="left", fontsize="medium")
            figure.set_figheight(figure.get_figheight() + 0.125 * (text.count("\n") + 1))
        return figure

    # A new figure for each file: saving changes the layout.
    with matplotlib.rc_context(_STYLE):
        for suffix in ("svg", "pdf"):
            files[suffix] = _saved(drawn(), suffix, origin)
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            files["page"] = _saved(drawn(), "svg", origin)
    return files
