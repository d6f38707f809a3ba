"""Whether everyone can read the page: by screen readers, on a phone, on paper; and the index that leads to it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from browsing import Open, open_details, serious
from invented import SUITE, curve, reference, store

from benchmarks.report import render

pytest_plugins = ["chromium"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_anyone_can_read_it(opened: Open, complete: Path, scheme: Any) -> None:
    """No serious finding of axe-core, with a row and all details open; claims, costs and gaps are there."""
    page = opened(complete, color_scheme=scheme, viewport={"width": 1440, "height": 1000})
    for part in ("claims", "costs", "cells", "ledger"):
        assert page.locator(f"section[aria-labelledby={part}] :is(table, img)").count()
    assert page.locator(".method .verdict.replicated").count() and page.locator(".about table").count()
    open_details(page)
    page.evaluate("goTo(page.rows[0])")
    page.locator("tr.drawer table").wait_for()
    assert serious(page) == "[]"
    page.evaluate("change({ x: 'latency1' })")
    assert serious(page) == "[]"


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_nothing_is_wider_than_the_window(opened: Open, complete: Path, width: int) -> None:
    page = opened(complete, viewport={"width": width, "height": 900})
    open_details(page)
    assert page.evaluate("document.querySelector('.about table').offsetWidth > innerWidth") == (width == 390)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("smallest", [300_000, 105_000, 80_000, 13_000, 2_000, 1_300, 400])
def test_labels_of_an_axis_do_not_overlap_on_a_phone(opened: Open, tmp_path: Path, smallest: int) -> None:
    records = [*curve("alpha", [600_000, 400_000, smallest], [940, 930, 920]), reference()]
    path = render(SUITE, store(tmp_path / "results", records), tmp_path / "reports")
    page = opened(path, viewport={"width": 360, "height": 900})
    for axis in ("bytes", "ratio", "bits"):
        page.evaluate(f"change({{ x: '{axis}', hide: page.lines.filter(l => l.method === 'plain').map(l => l.id) }})")
        boxes = "[...document.querySelectorAll('#plot .xtick text')].map(label => label.getBoundingClientRect())"
        edges = sorted(page.evaluate(f"{boxes}.map(box => [box.left, box.right])"))
        assert len(edges) >= 2, axis
        assert all(right < left for (_, right), (left, _) in itertools.pairwise(edges)), axis


def test_paper_gets_figures_and_every_row(opened: Open, tmp_path: Path) -> None:
    records = [*curve("alpha", [9000 - i for i in range(60)], [900] * 60), reference()]
    page = opened(render(SUITE, store(tmp_path / "results", records), tmp_path / "reports"))
    assert page.locator("#rows tr[data-key]").count() < 61
    page.pdf()
    assert page.locator("#rows tr[data-key]").count() == 61
    page.emulate_media(media="print")
    assert page.locator(".static img").first.is_visible() and page.locator("#rows tbody tr").last.is_visible()
    for hidden in ("#plot", "#reset", "#query", ".exports", "#more", ".legend"):
        assert not page.locator(f"{hidden}:visible").count(), hidden


def test_paper_is_white_and_nothing_overlaps(opened: Open, complete: Path) -> None:
    """Wrong code that this finds: dark colours in print, boxes with a height from which their tables hang out."""
    page = opened(complete, color_scheme="dark", viewport={"width": 1040, "height": 720})
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    open_details(page)
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"
    boxes = "[...document.querySelectorAll('.scroll')].filter(box => box.offsetParent)"
    heights = page.evaluate(f"{boxes}.map(box => [box.className, getComputedStyle(box).maxHeight])")
    assert {"scroll", "scroll short"} == {name for name, _ in heights} and {height for _, height in heights} == {"none"}
    assert page.evaluate(f"{boxes}.every(box => box.scrollHeight <= box.offsetHeight + 1)")
    figures = "[...document.querySelectorAll('figure')].filter(one => one.offsetParent)"
    kept = page.evaluate(f"{figures}.map(one => getComputedStyle(one).breakInside)")
    assert kept and set(kept) == {"avoid"}


def test_the_index_opens(opened: Open, complete: Path) -> None:
    page = opened(complete.parent.parent / "index.html", ready="main section")
    assert serious(page) == "[]"
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    page.click("main a")
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    assert SUITE in page.title()
