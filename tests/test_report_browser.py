"""The report in a real browser without a network: what a reader does with it, and what it must never do."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from browsing import Open, shown
from invented import SUITE, everything

from benchmarks.evaluation.metrics import Z95, wilson
from benchmarks.records import Record
from benchmarks.report.columns import significant

pytest_plugins = ["chromium"]


def interval(own: list[Record]) -> tuple[float, float]:
    """Of the mean: Wilson's over the images and, where there are several seeds, no less than 1.96 standard errors."""
    if len(own) == 1:
        return own[0].quality.low, own[0].quality.high
    shares = [r.quality.value for r in own]
    mean = statistics.fmean(shares)
    half = Z95 * (mean * (1 - mean) / 1000 + statistics.variance(shares) / len(own)) ** 0.5
    low, high = wilson(round(1000 * mean), 1000)
    return max(0, min(low, mean - half)), min(1, max(high, mean + half))


def expected(own: list[Record]) -> dict[str, str]:
    """What every numeric column says of the records of one row."""
    n, low_high, one = len(own), interval(own), own[0]
    size = sum(r.rate.file_bytes for r in own) / n
    return {
        "seeds": str(n),
        "bytes": f"{size:,.0f}",
        "ratio": f"{one.rate.uncompressed_bytes / size:,.2f}",
        "bits": f"{8 * size / (one.rate.uncompressed_bytes / 4):,.3f}",
        "quality": f"{sum(r.quality.total for r in own) / n / 10:.2f} "
        + "–".join(f"{100 * bound:.2f}" for bound in low_high),
        "nonzero": f"{100 * one.counted.nonzero / one.counted.elements:.1f}",
        "elements": f"{one.counted.elements:,}",
        "macs": f"{one.counted.macs / 1e6:.2f}",
        "latency1": "1.25 (1.20–1.50)",
        "latency128": "40.0 (38.4–48.0)",
        "hours": significant(12.5 * n / 3600),
    }


def test_every_number_in_the_table_is_its_record(opened: Open, complete: Path) -> None:
    groups: dict[str, list[Record]] = {}
    for known in everything():
        cell, _, point = known.id.removeprefix(f"{SUITE}/").rpartition("/")
        groups.setdefault(f"{cell.rpartition('-s')[0]}/{point}", []).append(known)
    page = opened(complete, "#configs=all")
    numeric = page.evaluate("page.columns.filter(column => column.numeric).map(column => column.key)")
    for network, budget in page.evaluate("page.boards.map(board => [board.network, board.budget])"):
        page.evaluate("choice => change(choice)", {"network": network, "budget": budget})
        page.evaluate("change({ columns: page.columns.map(column => column.key) })")
        heads = page.locator("#rows thead tr:last-child th").evaluate_all("all => all.map(one => one.dataset.sort)")
        for row in page.query_selector_all("#rows tbody tr[data-key]"):
            cells: dict[str, Any] = dict(
                zip(heads, [one.inner_text() for one in row.query_selector_all("th, td")], strict=True)
            )
            own = groups.pop(str(row.get_attribute("data-key")))
            assert {key: cells[key] for key in numeric} == expected(own)
            assert cells["method"].split()[0] == own[0].method
    assert not groups


def test_filters_search_and_sort(opened: Open, rendered: Path) -> None:
    page = opened(rendered)
    assert len(shown(page)) == 3 and page.inner_text("#count") == "3 of 3 operating points on net"
    page.check("input[name=network][value=other]", force=True)
    assert page.inner_text("#count") == "1 of 1 operating points on other"
    page.check("input[name=budget][value=short]", force=True)
    assert page.inner_text("#count") == "3 of 3 operating points on other"
    assert {key.split("/")[1] for key in shown(page)} == {"beta"}
    page.click("#rows thead [data-sort=bytes] button")
    rising = shown(page)
    page.click("#rows thead [data-sort=bytes] button")
    assert shown(page) == rising[::-1] and rising != rising[::-1]
    assert page.get_attribute("#rows thead [data-sort=bytes]", "aria-sort") == "descending"
    page.click("#rows thead [data-sort=quality] button")  # the best comes first, whatever best is
    assert page.get_attribute("#rows thead [data-sort=quality]", "aria-sort") == "descending"
    page.fill("#query", "sparsity=0.6")
    assert [key[-3:] for key in shown(page)] == ["p01"]
    page.click("#reset")
    assert len(shown(page)) == 3 and "=" not in page.evaluate("location.hash")
    page.click(".line >> nth=0")
    assert len(shown(page)) < 3 and "hide=" in page.evaluate("location.hash")


def test_families_and_labels_are_filtered(opened: Open, complete: Path) -> None:
    page = opened(complete)

    def methods() -> set[str]:
        return {key.split("/")[1] for key in shown(page)}

    assert methods() == {"alpha", "beta", "gamma", "plain"}
    page.select_option("#family", "pruning")
    assert methods() == {"alpha"}
    page.select_option("#family", "")
    page.evaluate("document.querySelector('.more').open = true")
    page.select_option("#fidelity", "baseline")
    assert methods() == {"beta", "plain"} and page.locator("#plot .legendtoggle").count() == 0
    assert page.evaluate("element('plot').data.filter(trace => trace.customdata).length") == 1  # without the reference
    assert page.inner_text("#count") == "2 of 6 operating points on net"


def test_a_link_holds_the_whole_view(opened: Open, rendered: Path) -> None:
    page = opened(rendered)
    page.evaluate(
        "change({ network: 'net', x: 'macs', front: false, sort: '-quality', query: 'alpha', loss: '0.5 points' })"
    )
    page.evaluate(
        "change({ columns: ['bytes', 'quality'], baseline: visibleLines()[0].id, hide: [visibleLines()[1].id] })"
    )
    page.evaluate("change({ at: '4', intervals: false, range: 'common' })")
    wanted, rows, link = page.evaluate("state"), shown(page), page.evaluate("permalink()")
    again = opened(rendered, "#" + link.partition("#")[2])
    assert again.evaluate("state") == wanted and shown(again) == rows
    page.evaluate("change(defaults())")  # what is as it begins is in the link, too: later pages may begin differently
    link = parse_qs(page.evaluate("permalink()").partition("#")[2], keep_blank_values=True)
    assert set(link) == {*wanted, "snapshot"}
    assert link["at"] == [str(page.evaluate("boardHere().start"))] and link["loss"] == ["1 point"]
    key = rows[-1]
    link = page.evaluate("key => permalink({ row: key, query: '', hide: [] })", key)
    third = opened(rendered, "#" + link.partition("#")[2])
    assert third.locator(f"tr[data-key='{key}'] .open").get_attribute("aria-expanded") == "true"
    unknown = "#network=gone&x=up&columns=a,b&row=none&hide=zz&sort=nothing&budget=gone&family=gone&fidelity=gone&at=abc&loss=1"
    broken = opened(rendered, unknown)
    assert broken.evaluate("state.network") == "net" and len(shown(broken)) == 3
    assert broken.evaluate("[state.at, state.budget]") == ["", "post-training"]
    note = broken.inner_text("#link-note")
    assert (
        note.startswith("This page does not have what the link names: the network gone, ")
        and "the row none" in note
        and "the loss 1" in note
    )


def test_a_link_names_its_snapshot(opened: Open, rendered: Path) -> None:
    page = opened(rendered)
    link = page.evaluate("permalink()").partition("#")[2]
    assert parse_qs(link)["snapshot"] == [page.evaluate("page.snapshot")]
    assert opened(rendered, f"#{link}").inner_text("#link-note") == ""
    other = opened(rendered, "#snapshot=0123456789ab").inner_text("#link-note")
    assert other.startswith("The link is of snapshot 0123456789ab, this page is of ")


def test_an_opened_row_is_a_part_of_the_view(opened: Open, rendered: Path) -> None:
    page = opened(rendered)
    page.click("#rows tbody tr .open >> nth=1")
    key = shown(page)[1]
    assert "row=" in page.evaluate("location.hash")
    page.click("#rows thead [data-sort=bytes] button")
    assert page.locator(f"tr[data-key='{key}'] + tr.drawer").count() == 1
    page.check("input[name=network][value=other]", force=True)
    assert "row=" not in page.evaluate("location.hash")
    again = opened(rendered, page.evaluate("location.hash"))
    assert again.evaluate("state.network") == "other"


def test_a_keyboard_stays_where_it_is(opened: Open, rendered: Path) -> None:
    page = opened(rendered)
    focused = "document.activeElement.closest('[data-sort], [data-line]')?.dataset"
    page.focus("#rows thead [data-sort=ratio] button")
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == {"sort": "ratio"}
    page.focus(".line >> nth=1")
    before = page.evaluate(focused)
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == before and page.get_attribute(".line >> nth=0", "aria-pressed") == "false"


def test_a_row_opens_to_its_provenance(opened: Open, rendered: Path) -> None:
    page = opened(rendered)
    page.focus("#rows tbody tr[data-key*=alpha] .open >> nth=0")
    page.keyboard.press("Enter")
    drawer = page.locator("tr.drawer")
    drawer.locator("table").wait_for()
    words = drawer.inner_text()
    assert "No log was kept of seed 1's run." in words and drawer.locator(".log").count() == 1
    drawer.locator(".log summary").click()
    assert drawer.locator(".log pre").inner_text() == "0.1 s  epoch 1 <script>unsafe()</script>\n"
    for fact in (
        "How do I reproduce this row?",
        "a" * 64,
        "0123456789abcdef",
        "seed 2",
        "By role: weights",
    ):
        assert fact in words
    page.focus("#rows tbody tr[data-key*=alpha] .open >> nth=0")
    page.keyboard.press("Enter")
    assert drawer.count() == 0
