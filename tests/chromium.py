"""Fixtures of the tests that open the report in a browser; a plugin of theirs, so that pytest finds it by its name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Open
from invented import SUITE, everything, made, publish, several, store, timed
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

from benchmarks import records
from benchmarks.records import CellState, latency
from benchmarks.report import render
from benchmarks.running import state

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """The system's own Chromium: none is downloaded."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium to open the page with")
    return {**browser_type_launch_args, "executable_path": CHROMIUM}


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Opens pages, started, in windows without a network; fails in the end at anything that a console complained of."""
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    def asked(request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            complaints.append(request.url)

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def open_page(path: Path, fragment: str = "", ready: str = "html[data-ready]", **options: Any) -> Page:
        contexts.append(browser.new_context(offline=True, accept_downloads=True, **options))
        page = contexts[-1].new_page()
        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", asked)
        page.goto(path.as_uri() + fragment)
        page.wait_for_selector(ready, timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints, complaints


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    results = store(folder / "results", several())
    ((results / made().id).parent / state.LOG).write_text("0.1 s  epoch 1 <script>unsafe()</script>\n")
    return render(SUITE, results, folder / "reports")


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all that a page can have: reported numbers, claims, costs, gaps, a README, latencies."""
    folder = tmp_path_factory.mktemp("complete")
    results = store(folder / "results", everything())
    for network in ("net", "other"):
        latency.write(results, timed(made().provenance.artefact_sha256, network=network))
    failed = CellState(records.SCHEMA, "0" * 16, "failed", 0, 1.0, "out of <b>memory</b>")
    records.write(results / SUITE / "net/alpha/0123abcd-short-s0/cell.json", failed)
    with pytest.MonkeyPatch.context() as patch:
        publish(folder / "alpha", patch)
        return render(SUITE, results, folder / "reports")
