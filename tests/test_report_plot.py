"""The plot, the comparison of curves and the ranking, in a real browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browsing import Open, shown
from invented import SUITE, counted, curve, made, reference, store
from playwright.sync_api import Page
from scipy.interpolate import PchipInterpolator

from benchmarks.report import render

pytest_plugins = ["chromium"]


def test_a_page_begins_with_one_curve_for_each_method(opened: Open, tmp_path: Path) -> None:
    curves = [made(index=i, config={"steps": steps}) for steps in (3, 4) for i in (0, 1)]
    path = render(SUITE, store(tmp_path / "results", [*curves, reference()]), tmp_path / "reports")
    page = opened(path)
    assert len(shown(page)) == 3
    more(page)
    page.check("input[name=configs][value=all]", force=True)
    every = shown(page)
    assert len(every) == 5 and "configs=all" in page.evaluate("permalink()")
    page.check("input[name=configs][value=best]", force=True)
    (other, _) = (key for key in every if key not in shown(page))
    page.evaluate("key => goTo(page.rowByKey.get(key))", other)
    assert shown(page) == every and page.locator(f"tr[data-key='{other}'] + tr.drawer").count() == 1
    again = opened(path, f"#row={other}")  # a link to a row shows it, whatever the page begins with
    assert again.locator(f"tr[data-key='{other}'] + tr.drawer").count() == 1


def more(page: Page) -> None:
    """Open the choices that are folded at first."""
    page.evaluate("document.querySelector('.more').open = true")


def test_a_curve_has_the_points_that_validation_chooses(opened: Open, tmp_path: Path) -> None:
    """Of four points of two configurations: the test scores would choose others."""
    known = {3: [(9000, 900, 910), (5000, 890, 800)], 4: [(8000, 700, 920), (4000, 600, 810)]}
    records = [
        made(index=i, config={"steps": steps}, file_bytes=size, correct=test, validation=counted(right))
        for steps, points in known.items()
        for i, (size, test, right) in enumerate(points)
    ]
    page = opened(render(SUITE, store(tmp_path / "results", [*records, reference()]), tmp_path / "reports"), "#at=2")
    assert "files of 4,000 to 9,000 B" in page.inner_text("#at-rate")  # though the largest one is not chosen
    (curve,) = page.evaluate(
        "page.curves.filter(curve => curve.method === 'alpha').map(curve => curve.rows.map(row => value(row, 'bytes')))"
    )
    assert curve == [8000, 4000]
    assert "+1 more" in page.locator(".line:has-text('alpha')").inner_text()
    assert page.evaluate("rowsOf(shownLines()).length") == 3


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


def test_methods_are_ranked_on_their_curves(opened: Open, tmp_path: Path) -> None:
    """At a quarter of the reference's bytes, between the neighbours over log bytes; without items, scores are independent."""
    known = {"alpha": ([12_000, 8000], [900, 880]), "beta": ([11_000, 9000], [910, 890]), "gamma": ([10_000], [800])}
    records = [
        record for name, points in {**known, "delta": ([12_000], [950])}.items() for record in curve(name, *points)
    ]
    page = opened(render(SUITE, store(tmp_path / "results", [*records, reference()]), tmp_path / "reports"), "#at=4")
    found = page.evaluate("standing().map(({ curve, rank, at }) => [curve.method, rank, at[4]])")
    wanted = {
        name: float(np.interp(np.log(10_000), np.log(sizes[::-1]), np.array(correct[::-1]) / 10))
        for name, (sizes, correct) in known.items()
    }
    assert found == [
        ["beta", 1, pytest.approx(wanted["beta"])],
        ["alpha", 1, pytest.approx(wanted["alpha"])],
        ["gamma", 3, pytest.approx(80)],
    ]
    assert page.inner_text("#at-rate-note") == "10,000 bytes."
    outside = {line.split()[1]: line.split("\t") for line in page.locator("#at-rate tbody tr").all_inner_texts()[3:]}
    assert {name: [words[0].strip(), *words[2:]] for name, words in outside.items()} == {
        "delta": ["–", "–", "files of 12,000 to 12,000 B"],
        "plain": ["–", "–", "files of 40,000 to 40,000 B"],
    }
    assert "12,000 B" in page.locator("#at-rate tbody tr:has-text('alpha')").inner_text()
    page.evaluate("change({ hide: page.curves.filter(curve => curve.method === 'beta').map(curve => curve.id) })")
    assert page.evaluate("standing().map(({ curve, rank }) => [curve.method, rank])") == [["alpha", 1], ["gamma", 2]]


def test_the_smallest_files_at_one_quality(opened: Open, tmp_path: Path) -> None:
    """One point below the reference's 95 %: one curve crosses it, one ends above it, one stays below."""
    records = [
        *curve("alpha", [9000, 5000], [945, 930]),
        *curve("beta", [9000, 7000], [948, 944]),
        *curve("gamma", [9000, 3000], [935, 930]),
    ]
    path = render(SUITE, store(tmp_path / "results", [*records, reference()]), tmp_path / "reports")
    page = opened(path, "#loss=1 point")
    size = float(np.exp(np.interp(94.0, [93.0, 94.5], np.log([5000, 9000]))))
    lines = [line.split() for line in page.locator("#at-quality tbody tr").all_inner_texts()]
    assert [line.pop(0) for line in lines] == ["1", "1", "3"]  # 1,000 items do not tell the first two apart
    assert [line[0] for line in lines] == ["beta", "alpha", "plain"]
    assert lines[0][1:6] == ["7,000", "or", "less", "5.7", "1.00"]
    assert lines[1][1:4] == [f"{size:,.0f}", f"{40_000 / size:.1f}", f"{size / 7000:.2f}"]
    assert page.inner_text("#at-quality-note") == "At least 94.00 %. 1 of the shown methods does not reach it."


def test_one_quality_over_networks(opened: Open, tmp_path: Path) -> None:
    """The geometric mean of the ratios on both networks; a method without such a file on one of them has none."""
    records = [
        *curve("alpha", [5000, 4000], [941, 940]),
        *(made("alpha", network="other", index=i, file_bytes=size, correct=940) for i, size in enumerate([9000, 2500])),
        *curve("beta", [9000, 8000], [945, 942]),
        *(reference(network) for network in ("net", "other")),
    ]
    path = render(SUITE, store(tmp_path / "results", records), tmp_path / "reports")
    lines = [line.split() for line in opened(path, "#loss=1 point").locator("#at-quality tbody tr").all_inner_texts()]
    found = {line[1]: [word for word in line if word not in ("or", "less", "more")][5] for line in lines}
    assert found == {"alpha": f"{(40_000 / 4000 * 40_000 / 2500) ** 0.5:.1f}", "beta": "–", "plain": "1.0"}
    assert {line[1]: "more" in line for line in lines} == {"alpha": True, "beta": False, "plain": True}


def test_a_network_without_the_budget_shows_its_own(opened: Open, tmp_path: Path) -> None:
    trained = made("alpha", budget="short", epochs=1, file_bytes=9000)
    records = [*curve("alpha", [9000, 5000], [945, 930]), trained, reference(), reference("other")]
    path = render(SUITE, store(tmp_path / "results", records), tmp_path / "reports")
    page = opened(path, "#budget=short")
    page.check("input[name=network][value=other]", force=True)
    assert page.evaluate("[state.network, state.budget]") == ["other", "post-training"] and len(shown(page)) == 1
    again = opened(path, "#budget=short&network=other")
    assert again.evaluate("state.budget") == "post-training"
    assert "the budget short on other" in again.inner_text("#link-note")


def test_a_page_begins_with_a_budget_that_has_more_than_the_reference(opened: Open, tmp_path: Path) -> None:
    trained = made("alpha", budget="short", epochs=1, file_bytes=9000)
    page = opened(render(SUITE, store(tmp_path / "results", [trained, reference()]), tmp_path / "reports"))
    assert page.evaluate("state.budget") == "short" and len(shown(page)) == 1


def test_two_protocols_of_one_method_have_two_names(opened: Open, tmp_path: Path) -> None:
    trained = [
        made("alpha", budget="short", epochs=n, config={"mode": "plain", "steps": n}, file_bytes=9000, correct=940 + n)
        for n in (1, 2)
    ]
    others = [made("beta", budget="short", epochs=1, file_bytes=9000, correct=940), reference(), reference("other")]
    second = {"network": "other", "budget": "short", "epochs": 2, "config": {"mode": "plain", "steps": 2}}
    others.append(made("alpha", file_bytes=4000, correct=945, **second))
    page = opened(render(SUITE, store(tmp_path / "results", [*trained, *others]), tmp_path / "reports"))
    page.evaluate("change({ network: 'net', loss: '1 point' })")
    names = page.evaluate("[...document.querySelectorAll('#at-quality .name')].map(one => one.textContent)")
    assert sorted(names) == ["alpha, short, 1 epoch", "alpha, short, 2 epochs", "beta, short, 1 epoch"]
    mean = page.evaluate("""[...document.querySelectorAll('#at-quality tbody tr')].map(
        (line) => [line.querySelector('.name').textContent, line.cells[5].textContent])""")
    both = (40_000 / 9000 * 40_000 / 4000) ** 0.5  # on the other network, only the second protocol was measured
    assert dict(mean) == {
        "alpha, short, 1 epoch": "–",
        "alpha, short, 2 epochs": f"{both:.1f} or more",
        "beta, short, 1 epoch": "–",
    }


def test_a_line_that_shares_nothing_has_no_bd_rate(opened: Open, tmp_path: Path) -> None:
    records = [*curve("alpha", [9000, 5000], [945, 930]), *curve("beta", [9000, 5000], [940, 920]), reference()]
    page = opened(render(SUITE, store(tmp_path / "results", records), tmp_path / "reports"), "#range=common")
    page.select_option("#baseline", page.evaluate("page.curves.find(curve => curve.method === 'plain').id"))
    assert page.locator("#bd tbody tr").count() == 2
    assert all("too little in common" in line for line in page.locator("#bd tbody tr").all_inner_texts())


def test_a_row_of_a_hidden_curve_is_shown(opened: Open, tmp_path: Path) -> None:
    """The row belongs to another configuration than the one that names the curve."""
    records = [
        made(index=i, config={"steps": steps}, file_bytes=size, validation=counted(right))
        for steps, i, size, right in ((3, 0, 9000, 910), (3, 1, 5000, 800), (4, 0, 8000, 920), (4, 1, 4000, 810))
    ]
    page = opened(render(SUITE, store(tmp_path / "results", [*records, reference()]), tmp_path / "reports"))
    for place in (0, 1):
        curve_rows = "page.curves.find(curve => curve.method === 'alpha')"
        page.evaluate(f"change({{ hide: [{curve_rows}.id] }})")
        key = page.evaluate(f"{curve_rows}.rows[{place}].key")
        page.evaluate("key => goTo(page.rowByKey.get(key))", key)
        assert page.locator(f"tr[data-key='{key}'] + tr.drawer").count() == 1


def test_bd_rates_have_their_range_or_a_common_one(opened: Open, tmp_path: Path) -> None:
    records = [
        *curve("alpha", [9000, 6000, 3000], [940, 920, 880]),
        *curve("beta", [8000, 5000, 2900], [935, 905, 860]),
        *curve("gamma", [9500, 7000], [930, 900]),
    ]
    page = opened(render(SUITE, store(tmp_path / "results", [*records, reference()]), tmp_path / "reports"))
    page.select_option("#baseline", page.evaluate("page.curves.find(curve => curve.method === 'alpha').id"))

    def ranges() -> dict[str, str]:
        return {line.split()[0]: line.split("\t")[-1] for line in page.locator("#bd tbody tr").all_inner_texts()}

    assert ranges() == {"beta": "88.00 to 93.50", "gamma": "90.00 to 93.00", "plain": "too little in common"}
    page.check("input[name=range][value=common]", force=True)
    assert ranges() == {"beta": "90.00 to 93.00", "gamma": "90.00 to 93.00", "plain": "too little in common"}
    found = page.evaluate("bdRate(page.curves[1], page.curves[0], [90, 93]).percent")
    cubics = [
        PchipInterpolator(scores[::-1], np.log(sizes[::-1])).integrate(90, 93) / 3
        for sizes, scores in (([8000, 5000, 2900], [93.5, 90.5, 86.0]), ([9000, 6000, 3000], [94.0, 92.0, 88.0]))
    ]
    assert found == pytest.approx(100 * (np.exp(cubics[0] - cubics[1]) - 1), rel=1e-9)


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

    low, high = reached()  # the uncompressed network of 40,000 bytes is a line across the plot, no point
    assert 4000 < low < 5000 and 20_000 < high < 25_000
    page.click(".line:has-text('alpha')")
    low, high = reached()
    assert 4000 < low < 5000 and 10_000 < high < 12_500
    more(page)
    page.check("input[name=y][value=all]", force=True)
    low, high = reached()
    assert 200 < low < 400 and 10_000 < high < 12_500


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
    more(page)
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
    assert (points.count(), lines.count(), best) == (30, 34 + 1, 30)
    assert "1020 points are too many to tell apart" in page.inner_text("#plot-note")
    keys = "element('plot').data.flatMap(trace => trace.customdata ?? []).filter(Boolean)"
    assert page.evaluate(f"new Set({keys}).size") == page.evaluate(f"{keys}.length") == 1020
    assert page.evaluate("element('plot').data.length") == 3  # the line ahead, all others, the front
    page.evaluate("change({ front: false })")
    assert points.count() == 0
    page.evaluate("change({ front: true, hide: page.lines.slice(3).map(line => line.id) })")
    assert points.count() >= 60 and "tell apart" not in page.inner_text("#plot-note")


def test_times_come_with_what_they_are_worth(opened: Open, complete: Path) -> None:
    page = opened(complete)
    assert "idle machine" not in page.inner_text("#plot-note")
    more(page)
    page.check("input[name=x][value=latency1]", force=True)
    note = page.inner_text("#plot-note")
    assert "on an idle machine" in note and "Measured on: an idle processor, 1 thread used." in note
    assert page.locator("#front").is_enabled()
    hover = "element('plot').data.flatMap(trace => trace.hovertext ?? []).filter(Boolean)"
    assert all(" ms for a batch of 1<br>" in words for words in page.evaluate(hover))
    page.check("input[name=x][value=macs]", force=True)
    assert any("<br>1.23 million multiply-accumulates<br>" in words for words in page.evaluate(hover))
    for column in ("latency1", "latency128"):
        page.evaluate("key => change({ columns: [key] })", column)
        assert "idle machine" in str(page.get_attribute(f"#rows thead [data-sort={column}]", "title"))


def test_a_line_says_in_the_ranking_that_its_training_did_not_pay(opened: Open, tmp_path: Path) -> None:
    trained = [
        made("alpha", index=i, file_bytes=size, correct=correct, budget="short", epochs=1)
        for i, (size, correct) in enumerate([(12_000, 905), (9000, 880)])
    ]
    records = [made("alpha", file_bytes=9000, correct=900), *trained, reference()]
    page = opened(render(SUITE, store(tmp_path / "results", records), tmp_path / "reports"), "#at=4&budget=short")
    (line,) = page.locator("#at-rate tbody tr").all_inner_texts()
    assert "9,000 B ▽" in line and "12,000 B ▽" not in line


def test_lines_in_front_have_names_and_the_others_are_grey(opened: Open, tmp_path: Path) -> None:
    records = [
        *curve("alpha", [9000, 6000, 3000], [940, 920, 880]),
        *curve("beta", [12_000, 9000], [945, 900]),
        *curve("gamma", [9500, 7000], [930, 900]),
    ]
    page = opened(render(SUITE, store(tmp_path / "results", [*records, reference()]), tmp_path / "reports"))
    assert {"alpha", "beta"} == {
        text for text in page.locator("#plot .annotation").all_text_contents() if "reference" not in text
    }
    colours = (
        "Object.fromEntries(element('plot').data.filter(d => d.meta).map(d => [d.meta.split('.')[0], d.line.color]))"
    )
    drawn, grey = (
        page.evaluate(colours),
        page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--behind')"),
    )
    assert drawn["gamma"] == grey.strip() != drawn["alpha"]
    page.hover(".line:has-text('gamma')")
    assert page.evaluate(colours)["gamma"] == page.evaluate("page.curves.find(c => c.method === 'gamma').colour")
    page.hover("h1")
    assert page.evaluate(colours)["gamma"] == grey.strip()
    page.hover(".line:has-text('gamma')")
    page.evaluate("change({ hide: [page.curves.find(c => c.method === 'gamma').id] })")  # while it is pointed at
    page.hover("h1")
    assert page.evaluate(colours) == {name: drawn[name] for name in ("alpha", "beta")}
    page.evaluate("change({ hide: [] })")
    page.click(".line:has-text('gamma')")
    assert page.evaluate("shownLines().map(line => line.method)") == ["gamma"]
    page.click(".line:has-text('beta')")
    assert page.evaluate("shownLines().map(line => line.method)") == ["beta", "gamma"]
    page.click("#show-all")
    assert page.evaluate("shownLines().length") == 4
