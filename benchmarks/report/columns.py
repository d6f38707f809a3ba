"""The columns of the table. Each has a text, a unit and an exact value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.records import described
from benchmarks.records.latency import BATCHES, Milliseconds, Timed, of_row
from benchmarks.records.rows import Row
from benchmarks.report import names
from methods.interface import Metric

Value = float | int | str | None
WHOLE = {"/weight": 32, "/pixel": 24}  # bits before compression


@dataclass(frozen=True)
class Column:
    """`value` has full precision and is used for sorting; `text` is displayed. A value of None is shown as a dash.

    `best` is 1 if more is better, −1 if less is better, and 0 if neither is.
    `metric` is the position of the suite's metric that the column shows; `shown` is true if the column is visible until
    the reader changes the selection. A `derived` column says what the installed code makes of a row's settings: rows of other
    code have a dash there.
    """

    key: str
    group: str
    head: str
    unit: str
    help: str
    value: Callable[[Row], Value]
    text: Callable[[Row], str]
    numeric: bool = True
    shown: bool = True
    metric: int | None = None
    derived: bool = False
    best: int = 0


def significant(value: float, digits: int = 3) -> str:
    """At least `digits` significant digits, never an exponent: 0.0123, 1.23, 12.3, 1,234."""
    if value == 0:
        return "0"
    decimals = digits - 1
    size = abs(value)
    while size < 1 and decimals < 8:
        size, decimals = size * 10, decimals + 1
    while size >= 10 and decimals > 0:
        size, decimals = size / 10, decimals - 1
    return f"{value:,.{decimals}f}"


def _config(row: Row) -> str:
    return names.config(row.first)


def _settings(row: Row) -> str:
    return described.config_text(row.first)


def _budget(row: Row) -> str:
    return described.budget_text(row.first.budget, row.first.epochs)


def _batchnorm(row: Row) -> str:
    return described.batchnorm(row.first)


def _point(row: Row) -> str:
    return described.named(row.first.point)


def _nonzero(row: Row) -> float:
    return 100 * row.nonzero_share


def _elements(row: Row) -> float:
    return row.over_seeds(lambda r: r.counted.elements).mean


def _hours(row: Row) -> float:
    return sum(r.wall_s * r.provenance.processes for r in row.records) / 3600


def _text(key: str, head: str, help: str, value: Callable[[Row], str], shown: bool = True) -> Column:
    return Column(key, "operating point", head, "", help, value, value, numeric=False, shown=shown)


def _count(row: Row) -> int:
    return len(row.records)


_RATE = (
    Column(
        "bytes",
        "rate",
        "file",
        "bytes",
        "Size of the whole file; with several seeds, the mean",
        lambda row: row.file_bytes.mean,
        lambda row: f"{row.file_bytes.mean:,.0f}",
        best=-1,
    ),
    Column(
        "ratio",
        "rate",
        "ratio",
        "×",
        "Uncompressed bytes / bytes of the file",
        lambda row: row.ratio,
        lambda row: f"{row.ratio:,.2f}",
        best=1,
    ),
)
_PER_WEIGHT = Column(
    "bits",
    "rate",
    "bits",
    "/weight",
    "Bits of the file / values of the reference network",
    lambda row: row.bits_per_weight,
    lambda row: "–" if row.bits_per_weight is None else f"{row.bits_per_weight:,.3f}",
    best=-1,
)
_PER_PIXEL = replace(
    _PER_WEIGHT,
    unit="/pixel",
    help="Bits of the file / pixels of the picture",
    value=lambda row: WHOLE["/pixel"] / row.ratio,
    text=lambda row: f"{WHOLE['/pixel'] / row.ratio:,.3f}",
)
_POINT = (
    _text("network", "network", "The reference network that was compressed", lambda row: row.network, False),
    _text("config", "configuration", "Its name, or the settings that differ from the method's defaults", _config),
    _text("settings", "settings", "Settings that differ from the method's defaults", _settings, False),
    _text("budget", "budget", "How much training the method could spend on each operating point", _budget, False),
    replace(
        _text("batchnorm", "BatchNorm", f"How its statistics were set: {described.BATCHNORM}", _batchnorm), derived=True
    ),
    _text("point", "point", "The operating point, as the method labels it", _point),
    Column(
        "seeds",
        "operating point",
        "seeds",
        "",
        "Runs that the row averages: of different seeds and, in a mean over networks, of all these networks",
        _count,
        lambda row: str(_count(row)),
    ),
)
_COST = (
    Column(
        "nonzero",
        "decoded network",
        "non-zero",
        "%",
        "Values of the decoded network that are not zero",
        _nonzero,
        lambda row: f"{_nonzero(row):.1f}",
        shown=False,
    ),
    Column(
        "elements",
        "decoded network",
        "values",
        "",
        "Values of the decoded network: weights, biases and BatchNorm, zeros included",
        _elements,
        lambda row: f"{_elements(row):,.0f}",
        shown=False,
    ),
    Column(
        "macs",
        "decoded network",
        "MACs",
        "10⁶",
        "Multiply-accumulates of the decoded network for one item, zeros included",
        lambda row: row.macs,
        lambda row: f"{row.macs / 1e6:,.2f}",
        best=-1,
    ),
    Column(
        "hours",
        "spent",
        "hours",
        "",
        "Wall time of compressing, training and scoring, all seeds and processes together",
        _hours,
        lambda row: significant(_hours(row)),
        shown=False,
    ),
)


def columns(metrics: Sequence[Metric], has_weights: bool, timed: Mapping[str, Timed]) -> tuple[Column, ...]:
    """All columns of a suite with these metrics. Of several metrics, only the first one's column is `shown`.

    Without a reference network, bits are counted per pixel: what is coded is a picture. BatchNorm is not `shown` then. There
    are columns of latencies if architectures were `timed` (by artefact).
    """
    scores = (_score(metric, position) for position, metric in enumerate(metrics))
    latencies = (_latency(timed, batch) for batch in BATCHES if timed)
    return tuple(
        replace(column, shown=column.shown and (has_weights or column.key != "batchnorm"))
        for column in (*_RATE, _PER_WEIGHT if has_weights else _PER_PIXEL, *scores, *_POINT, *_COST, *latencies)
    )


def _latency(timed: Mapping[str, Timed], batch: int) -> Column:
    def found(row: Row) -> Milliseconds | None:
        one = of_row(row, timed)
        return None if one is None else one.architecture.of(batch)

    def value(row: Row) -> float | None:
        return None if (one := found(row)) is None else one.median

    def text(row: Row) -> str:
        if (one := found(row)) is None:
            return "–"
        return f"{significant(one.median)} ({significant(one.low)}–{significant(one.high)})"

    name = f"Time of a forward pass of the decoded network for a batch of {batch}"
    help = f"{name}: median and quartiles over rounds in which all architectures took turns on an idle machine"
    return Column(f"latency{batch}", "latency", f"b{batch}", "ms", help, value, text, shown=batch == 1, best=-1)


def _score(metric: Metric, position: int) -> Column:
    def value(row: Row) -> float | None:
        found = row.score(metric.name)
        return None if found is None else found.value

    def text(row: Row) -> str:
        found = row.score(metric.name)
        return "–" if found is None else found.text

    name = metric.name.replace(",", " ")  # commas separate the columns in an address
    return Column(
        "quality" if position == 0 else f"quality.{name}",
        "quality",
        metric.name,
        metric.unit,
        f"{metric.help}, with the 95 % interval over test items and seeds",
        value,
        text,
        shown=position == 0,
        metric=position,
        best=1 if metric.more_is_better else -1,
    )
