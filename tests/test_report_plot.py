"""The plot, the comparison of curves and the ranking, in a real browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browsing import Open, shown
from invented import SUITE, curve, made, reference, store
from playwright.sync_api import Page
from scipy.interpolate import PchipInterpolator

from benchmarks.report import render

pytest_plugins = ["chromium"]


def test_a_page_begins_with_first_configurations(opened: Open, tmp_path: Path) -> None:
    curves = [made(index=i, config={"steps": steps}) for steps in (3, 4) for i in (0, 1)]
    path = render(SUITE, store(tmp_path / "results", [*curves, reference()]), tmp_path / "reports")
    page = opened(path)
    assert len(shown(page)) == 3
    page.check("input[name=configs][value=all]", force=True)
    every = shown(page)
    assert len(every) == 5 and "configs=all" in page.evaluate("permalink()")
    page.check("input[name=configs][value=first]", force=True)
    (other, _) = (key for key in every if key not in shown(page))
    page.evaluate("key => goTo(page.rowByKey.get(key))", other)
    assert shown(page) == every and page.locator(f"tr[data-key='{other}'] + tr.drawer").count() == 1
    again = opened(path, f"#row={other}")  # a link to a row shows it, whatever the page begins with
    assert again.locator(f"tr[data-key='{other}'] + tr.drawer").count() == 1


def test_a_point_of_the_plot_leads_to_its_row(opened: Open, rendered: Path) -> None:
    page = opened(rendered)
    page.evaluate("change({ query: 'nothing fits' })")
    page.locator("#plot .points path").first.click(force=True)
    assert page.locator("tr.drawer").count() == 1 and "row=" in page.evaluate("location.hash")


def test_rate_differences_are_scipys(opened: Open, tmp_path: Path) -> None:
    """Mean of log bytes over the qualities that both curves have, within the view of ten points below the reference."""
    ours, theirs = (
        ([9000, 6000, 3000, 2000, 500], [945, 930, 890, 860, 120]),
        ([15_000, 8000, 5200, 2500], [940, 915, 905, 800]),
    )
    records = [*curve("alpha", *ours), *curve("beta", *theirs), *curve("gamma", [9000, 8000], [100, 90]), reference()]
    page = opened(render(SUITE, store(tmp_path / "results", records), tmp_path / "reports"))
    pairs = [["alpha", "beta"], ["beta", "alpha"], ["gamma", "alpha"]]
    line = "const line = name => page.lines.find(line => line.method === name);"
    found = page.evaluate(f"pairs => {{ {line} return pairs.map(([a, b]) => bdRate(line(a), line(b))); }}", pairs)

    def mean(sizes: list[int], correct: list[int], low: float, high: float) -> float:
        cubic = PchipInterpolator(np.array(correct[::-1]) / 10, np.log(sizes[::-1]))
        return float(cubic.integrate(low, high)) / (high - low)

    low, high = 85.0, 94.0  # ten points below the reference's 95 %, and the worse of the two best points
    wanted = 100 * (np.exp(mean(*ours, low, high) - mean(*theirs, low, high)) - 1)
    assert found[0]["percent"] == pytest.approx(wanted, rel=1e-9) and wanted < -20
    assert (found[0]["from"], found[0]["to"]) == (low, high)
    assert (1 + found[0]["percent"] / 100) * (1 + found[1]["percent"] / 100) == pytest.approx(1, rel=1e-9)
    assert found[2] is None


def test_the_front_is_what_nothing_beats(opened: Open, tmp_path: Path) -> None:
    records = [
        *curve("alpha", [9000, 6000, 3000], [940, 900, 700]),
        *curve("beta", [8000, 5000, 2900], [940, 890, 690]),
        reference(),
    ]
    page = opened(render(SUITE, store(tmp_path / "results", records), tmp_path / "reports"))
    for axis in ("bytes", "ratio", "bits"):
        best = page.evaluate("axis => front(page.rows, axis).map(row => row.values[page.place.bytes])", axis)
        assert sorted(best) == [2900, 3000, 5000, 6000, 8000, 40_000]


def test_ranks_are_shared_inside_the_noise(opened: Open, tmp_path: Path) -> None:
    """Each line is represented by its largest file of at most a quarter; intervals of 1,000 items are about ±2 points."""
    records = [
        *curve("alpha", [10_000, 4000], [900, 899]),
        *curve("beta", [9900, 9000], [910, 100]),
        *curve("gamma", [9800], [800]),
        *curve("delta", [12_000], [950]),
    ]
    page = opened(render(SUITE, store(tmp_path / "results", [*records, reference()]), tmp_path / "reports"), "#at=4")
    found = page.evaluate("standing().map(({ row, rank }) => [row.line.method, rank, row.values[page.place.bytes]])")
    assert found == [["beta", 1, 9900], ["alpha", 1, 10_000], ["gamma", 3, 9800]]
    assert page.inner_text("#ranking-note") == "2 of the shown lines have no file with such a ratio."
    counts = {"alpha": 940, "beta": 920, "gamma": 900}  # the third overlaps the second, but not the first
    chain = [made(name, file_bytes=9000, correct=correct) for name, correct in counts.items()]
    page = opened(render(SUITE, store(tmp_path / "chain", [*chain, reference()]), tmp_path / "reports2"), "#at=4")
    assert page.evaluate("standing().map(({ rank }) => rank)") == [1, 1, 2]


def limits(page: Page, axis: str) -> list[float]:
    """From where to where an axis of the plot reaches."""
    return page.evaluate(f"element('plot').layout.{axis}.range")  # type: ignore[no-any-return]


def test_the_axis_spans_what_is_in_view(opened: Open, tmp_path: Path) -> None:
    """A collapsed point and a hidden line leave no empty part."""
    records = [*curve("alpha", [10_000, 5000, 400], [900, 890, 100]), *curve("beta", [20_000], [940])]
    page = opened(render(SUITE, store(tmp_path / "results", [*records, reference()]), tmp_path / "reports"))

    def reached() -> tuple[float, float]:
        low, high = limits(page, "xaxis")
        return 10**low, 10**high

    page.evaluate("change({ hide: page.lines.filter(line => line.method === 'plain').map(line => line.id) })")
    low, high = reached()
    assert 4000 < low < 5000 and 20_000 < high < 25_000
    page.click(".line:has-text('beta')")
    low, high = reached()
    assert 4000 < low < 5000 and 10_000 < high < 12_500
    page.check("input[name=y][value=all]", force=True)
    low, high = reached()
    assert 300 < low < 400 and 10_000 < high < 12_500


def test_papers_points_are_hollow_and_joined_to_ours(opened: Open, complete: Path) -> None:
    """The paper's 91.2 % at 5 times stand beside the measured point at the same label; its 88 % beside none."""
    page = opened(complete)
    hollow = "element('plot').data.filter(trace => trace.marker?.symbol === 'circle-open')"
    drawn = page.evaluate(f"{hollow}.map(trace => [trace.x, trace.y, trace.mode, trace.hovertext[0]])")
    ours = page.evaluate(
        "(row => [value(row, 'bytes'), value(row, 'quality')])(page.rowByKey.get(page.reported[0].row))"
    )
    (answered, alone) = drawn
    assert (
        answered[:3] == [[8000, ours[0]], [91.2, ours[1]], "lines+markers"] and "counting weights only" in answered[3]
    )
    assert alone[:2] == [[5000], [88]]
    assert page.locator("#plot .scatterlayer path.point").count() > 0
    assert page.locator("#reported").is_checked() and page.locator("label:has(#reported)").is_visible()
    page.uncheck("#reported", force=True)
    assert not page.evaluate(hollow)
    page.check("#reported", force=True)
    page.evaluate("change({ x: 'macs' })")  # a paper's point has no place on this axis
    assert not page.evaluate(hollow) and not page.locator("label:has(#reported)").is_visible()
    page.evaluate("change({ x: 'bytes', network: 'other' })")
    assert not page.locator("label:has(#reported)").is_visible()


def test_a_crowd_is_drawn_without_markers(opened: Open, tmp_path: Path) -> None:
    """Of more than five hundred points those on the front keep theirs; with fewer in view all come back.

    Lines of one colour are one to the plotting library, with every point still there to be pointed at.
    """
    sizes = [9000 - 200 * index for index in range(30)]
    curves = [
        curve(f"m{n:02d}", [size + n for size in sizes], [940 - 20 * i - n for i in range(30)]) for n in range(34)
    ]
    records = [*(record for one in curves for record in one), reference()]
    page = opened(render(SUITE, store(tmp_path / "results", records), tmp_path / "reports"))
    best = page.evaluate("front(placedRows(), 'bytes').length")
    points, lines = page.locator("#plot .scatterlayer path.point"), page.locator("#plot .scatterlayer path.js-line")
    # The reference, which has no line, is drawn twice.
    assert (points.count(), lines.count(), best) == (31 + 1, 34 + 2, 31)
    assert "1021 points are too many to tell apart" in page.inner_text("#plot-note")
    keys = "element('plot').data.flatMap(trace => trace.customdata ?? []).filter(Boolean)"
    assert page.evaluate(f"new Set({keys}).size") == page.evaluate(f"{keys}.length") == 1021
    assert (
        page.evaluate("element('plot').data.length")
        == page.evaluate("new Set(shownLines().map(l => l.colour)).size") + 2
    )
    page.evaluate("change({ front: false })")
    assert points.count() == 1
    page.evaluate("change({ front: true, hide: page.lines.slice(3).map(line => line.id) })")
    assert points.count() >= 60 and "tell apart" not in page.inner_text("#plot-note")


def test_times_come_with_what_they_are_worth(opened: Open, complete: Path) -> None:
    page = opened(complete)
    assert page.locator("#front").is_enabled() and "idle machine" not in page.inner_text("#plot-note")
    page.check("input[name=x][value=latency128]", force=True)
    note = page.inner_text("#plot-note")
    assert "other cells may have run on the same machine" in note and "on an idle machine (nox -s perf)" in note
    assert "1 of the shown points has no such time." in note
    assert page.locator("#front").is_enabled()
    page.check("input[name=x][value=latency1]", force=True)
    assert page.locator("#front").is_disabled()
    assert "a processor, 2 threads used; another processor, 1 thread used" in page.inner_text("#plot-note").replace(
        "another processor, 1 thread used; a processor, 2 threads used",
        "a processor, 2 threads used; another processor, 1 thread used",
    )
    assert "there is no front" in page.inner_text("#plot-note")
    hover = "element('plot').data.flatMap(trace => trace.hovertext ?? []).filter(Boolean)"
    assert all(" ms for a batch of 1<br>" in words for words in page.evaluate(hover))
    page.check("input[name=x][value=macs]", force=True)
    assert any("<br>1.23 million multiply-accumulates<br>" in words for words in page.evaluate(hover))
    for column in ("latency1", "latency128", "decode"):
        page.evaluate("key => change({ columns: [key] })", column)
        assert "idle machine" in str(page.get_attribute(f"#rows thead [data-sort={column}]", "title"))


def test_a_line_says_in_the_ranking_that_its_training_did_not_pay(opened: Open, tmp_path: Path) -> None:
    trained = made("alpha", file_bytes=9000, correct=880, budget="short", epochs=1)
    records = [made("alpha", file_bytes=9000, correct=900), trained, reference()]
    page = opened(render(SUITE, store(tmp_path / "results", records), tmp_path / "reports"), "#at=4")
    lines = page.locator("#ranking-rows tbody tr").all_inner_texts()
    assert [("short" in line, "▽" in line) for line in lines] == [(False, False), (True, True)]
