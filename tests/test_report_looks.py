"""Whether everyone can read the page: by screen readers, on a phone, on paper; and the index that leads to it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from browsing import Open, open_details, serious
from invented import SUITE, curve, reference, store

from benchmarks.records import Record
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


def test_a_phone_has_answers_and_the_plot_on_its_first_screen(opened: Open, tmp_path: Path) -> None:
    """Who wins near the reference and at 10 times, by how much, and what is replicated; a desktop has a table of it."""
    records = [*curve("alpha", [9000, 3000], [948, 900]), *curve("beta", [9000, 3000], [943, 700]), reference()]
    path = render(SUITE, store(tmp_path / "results", records), tmp_path / "reports")
    page = opened(path, viewport={"width": 390, "height": 844})
    brief, plot = page.locator(".brief"), page.locator("#plot")
    words = " ".join(brief.inner_text().split())
    assert words.startswith(
        "net, post-training: within 1 point of the reference alpha, 5.34× smaller; next beta,"
    )  # 7,492 B
    assert "times the bytes; at 10× alpha, 91." in words
    boxes = [one.bounding_box() for one in (brief, plot)]
    assert boxes[0] and boxes[1] and boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"] < 844 / 2
    assert page.locator(".answers").bounding_box()["y"] > boxes[1]["y"]  # type: ignore[index]
    page.set_viewport_size({"width": 1024, "height": 844})
    assert not brief.is_visible() and page.locator(".answers table").is_visible()


@pytest.mark.parametrize(
    ("records", "start"),
    [
        ([reference()], "No measurement gives an answer: no curve comes near the reference or reaches 10× or 20×."),
        (curve("alpha", [9000, 3000], [948, 900]), "Interpolated between measured files"),
        ([*curve("alpha", [9000, 3000], [600, 500]), reference()], "Interpolated between measured files"),
    ],
)
def test_answers_say_no_more_than_there_is(opened: Open, tmp_path: Path, records: list[Record], start: str) -> None:
    """Nothing but the reference; no reference; nothing near it. Wrong code that this finds: "within :", an empty table."""
    path = render(SUITE, store(tmp_path / "results", records), tmp_path / "reports")
    page = opened(path, viewport={"width": 390, "height": 844})
    note, brief = page.locator(".answers .note").inner_text(), page.locator(".brief").inner_text()
    assert note.startswith(start) and "within" not in brief and ("10×" in brief) == (len(records) > 1)
    assert (
        page.locator(".answers table").count() == (len(records) > 1)
        and "within 1 point" not in page.locator(".answers").inner_text()
    )


def test_a_method_in_the_answers_leads_to_its_section(opened: Open, tmp_path: Path) -> None:
    records = [*curve("alpha", [9000, 3000], [948, 900]), reference()]
    page = opened(render(SUITE, store(tmp_path / "results", records), tmp_path / "reports"))
    page.locator(".answers td a", has_text="alpha").first.click()
    assert page.locator("#method-alpha[open]").count() == 1


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
