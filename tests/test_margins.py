"""Errors, margins and hours in what is said about results, against formulas and sums by hand. Every number is invented."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from browsing import Open
from invented import SUITE, Page, curve, made, reference, store
from matplotlib.axes import Axes

from benchmarks.papers import quantities
from benchmarks.papers.claims import Claim, Side
from benchmarks.papers.meeting import meetings
from benchmarks.papers.reported import Reported
from benchmarks.papers.verdicts import Measured, verdict
from benchmarks.records.rows import aggregate, references
from benchmarks.report import columns, figures, render, series
from benchmarks.report.ledger import ledger

pytest_plugins = ["chromium"]


def wilson(correct: int, items: int) -> tuple[float, float]:
    """Where |p − share| is 1.96 standard errors of a proportion p: the roots of a quadratic, in per cent."""
    z2, share = 1.959963984540054**2, correct / items
    low, high = sorted(np.roots([1 + z2 / items, -(2 * share + z2 / items), share * share]))
    return 100 * float(low), 100 * float(high)


@pytest.mark.parametrize(
    ("tolerance", "error", "margin"),
    [(None, 0.3, 0.6), (0.0, 0.3, 0.6), (0.1, 0.3, 0.6), (1.0, 0.3, 1.0), (1.0, 0.0, 1.0)],
)
def test_a_verdict_has_the_larger_of_two_margins(tolerance: float | None, error: float, margin: float) -> None:
    """The tolerance of the paper's row, and two standard errors of the measurement."""
    wanted = Reported(task="digits", network="net", metric="top-1", value=90, source="T", tolerance=tolerance)
    quantity = quantities.find("digits", "top-1")
    for side in (-1, 1):
        for part, outcome in ((0.99, "replicated"), (1.01, "better" if side > 0 else "worse")):
            found = verdict(wanted, quantity, Measured(90 + side * part * margin, error))
            assert (found.outcome, found.margin) == (outcome, pytest.approx(margin))
            assert found.delta == pytest.approx(side * part * margin)


@pytest.mark.parametrize(("small", "large"), [(800, 900), (900, 800)])
def test_a_curve_between_two_points_is_as_uncertain_as_the_worse_one(small: int, large: int) -> None:
    """At 80 % of 1,000 items, the standard error is 1.265 points; at 90 %, 0.949."""
    sides = {"better": Side(method="alpha"), "worse": Side(method="beta")}
    claim = Claim(text="t", source="s", task="digits", budget="short", at="bytes", **sides)
    points = aggregate(curve("beta", [4000, 1000], [large, small]))
    (found,) = meetings(claim, aggregate([made(file_bytes=2000, correct=850)]), points)
    better, worse = found.better, found.worse
    assert better.error == pytest.approx(100 * math.sqrt(0.85 * 0.15 / 1000))
    assert worse.error == pytest.approx(100 * math.sqrt(0.8 * 0.2 / 1000))
    assert (better.size, worse.size, better.score) == (2000, 2000, pytest.approx(85))
    assert worse.score == pytest.approx((small + large) / 20)  # 2,000 is half-way between 1,000 and 4,000 in log bytes
    assert [row.file_bytes.mean for row in found.worse_rows] == [1000, 4000] and found.share == pytest.approx(0.5)


def test_a_curve_has_its_ends_and_points_of_one_size() -> None:
    """Both ends are on the curve, larger files come first, and two points of one size have no line between them."""
    sides = {"better": Side(method="alpha"), "worse": Side(method="beta")}
    claim = Claim(text="t", source="s", task="digits", budget="short", at="bytes", **sides)
    theirs = aggregate(curve("beta", [4000, 2000, 2000, 1000], [900, 850, 850, 800]))
    found = list(meetings(claim, aggregate(curve("alpha", [4001, 4000, 2000, 1000, 999], [1] * 5)), theirs))
    assert [(m.network, m.place, m.better.size) for m in found] == [
        ("net", "equal bytes", size) for size in (4000, 2000, 1000)
    ]
    assert [m.worse.score for m in found] == pytest.approx([90, 85, 80])
    twice = aggregate(curve("beta", [2000, 2000], [850, 850]))
    assert not list(meetings(claim, aggregate([made(file_bytes=2000)]), twice))


@pytest.mark.parametrize("sizes", [(40_000, 44_000), (44_000, 40_000), (40_000, 40_001)])
def test_the_smallest_file_that_compresses_nothing_is_the_reference(sizes: tuple[int, int]) -> None:
    """A better baseline must not be judged against a worse reference, in whatever order they come."""
    plain = [made(f"plain{i}", fidelity="baseline", file_bytes=size, correct=950) for i, size in enumerate(sizes)]
    others = [
        made("half", fidelity="baseline", file_bytes=20_000),
        made("paper", fidelity="paper", file_bytes=40_000),
        made("unknown", fidelity="baseline", file_bytes=40_000, network="other", rate=unweighted()),
    ]
    for records in ([*plain, *others], [*others, *plain[::-1]]):
        for rows in (aggregate(records), aggregate(records)[::-1]):
            found = references(rows)
            assert {network: row.file_bytes.mean for network, row in found.items()} == {"net": min(sizes)}


def unweighted() -> Any:
    """The rate of a file without a reference network."""
    return msgspec.structs.replace(made(file_bytes=40_000).rate, bits_per_weight=None)


def test_hours_are_those_of_all_processes_and_seeds(tmp_path: Path) -> None:
    """Half an hour in eight processes and an hour in one are five hours of computing."""
    one, other = (made(seed=seed).provenance for seed in (0, 1))
    eight = msgspec.structs.replace(one, processes=8, command=f"torchrun --nproc-per-node 8 --no-python {one.command}")
    many = [eight, other]
    records = [
        made(seed=s, wall_s=w, provenance=p) for s, (w, p) in enumerate(zip((1800.0, 3600.0), many, strict=True))
    ]
    records += [made(seed=0, index=1, wall_s=900.0, provenance=many[0])]
    rows = aggregate(records)
    assert [columns._hours(row) for row in rows] == [5.0, 2.0]
    ((entry),) = ledger(records)
    assert (entry.records, entry.hours) == (3, 7.0)
    page = render(SUITE, store(tmp_path / "results", [*records, reference()]), tmp_path / "reports")
    assert f"{7 + 12.5 / 3600:.1f} hours in total" in Page(page).text
    place = [column["key"] for column in Page(page).data["columns"]].index("hours")
    found = {row["key"]: row["values"][place] for row in Page(page).data["rows"] if "/alpha/" in row["key"]}
    assert sorted(found.values()) == [2.0, 5.0]


def bars(axes: Axes) -> list[tuple[float, float, float]]:
    """(x, lower end, upper end) of each error bar of a figure, as drawn."""
    segments = [s for bar in axes.containers for line in bar[2] for s in line.get_segments()]  # type: ignore[index]
    return [(float(s[0][0]), float(s[:, 1].min()), float(s[:, 1].max())) for s in segments]


def test_error_bars_are_as_long_as_the_intervals() -> None:
    correct = {9000: 930, 6000: 880, 3000: 20}
    rows = aggregate([*curve("alpha", list(correct), list(correct.values())), reference()])
    (axes, *_) = figures.figure(rows[0].quality.metric, rows[-1], list(series.series(rows))).axes
    found = {x: (low, high) for x, low, high in bars(axes)}
    for size, count in correct.items():
        assert found[size] == pytest.approx(wilson(count, 1000), abs=1e-9)


def test_error_bars_of_the_page_are_as_long_as_the_intervals(opened: Open, tmp_path: Path) -> None:
    correct = {9000: 930, 6000: 880, 3000: 870}
    records = [*curve("alpha", list(correct), list(correct.values())), reference()]
    path = render(SUITE, store(tmp_path / "results", records), tmp_path / "reports")
    for row in Page(path).data["rows"]:
        size = row["bytesRange"][0]
        assert row["intervals"][0] == pytest.approx(wilson(correct.get(size, 950), 1000))
    page = opened(path)
    page.evaluate("change({ front: false, intervals: true })")
    line = page.evaluate("element('plot').data.find(trace => trace.x.length === 3 && trace.error_y)")
    for place, (x, y) in enumerate(zip(line["x"], line["y"], strict=True)):
        low, high = wilson(correct[x], 1000)
        assert y - line["error_y"]["arrayminus"][place] == pytest.approx(low)
        assert y + line["error_y"]["array"][place] == pytest.approx(high)
