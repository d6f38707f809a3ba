"""The report of ten thousand records: time to render, size, and response times in a browser.

    pytest benchmarks/perf/test_report.py -s

The records are synthetic: two networks, 25 methods with four configurations of 25 points, two seeds. A response is timed
from the change until the browser has painted, with one curve for each method and with all configurations in view.
"""

from __future__ import annotations

import itertools
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from benchmarks.records import Record
from benchmarks.report import render
from tests.invented import REFERENCE_BYTES, SUITE, counted, made, reference, store

CHROMIUM = shutil.which("chromium")
MEGABYTES = 8
NETWORKS, SEEDS, POINTS = ("net", "other"), (0, 1), 25
CHOICES = {
    "axis": "change({ x: state.x === 'bytes' ? 'macs' : 'bytes' })",
    "network": "change({ network: page.networks.find(network => network.name !== state.network).name })",
    "budget": "change({ budget: state.budget === 'short' ? 'post-training' : 'short' })",
    "qualities": "change({ y: state.y === 'near' ? 'all' : 'near' })",
    "fidelity": "change({ fidelity: state.fidelity ? '' : page.lines[0].fidelity })",
    "line": "change({ hide: toggled(state.hide, visibleLines()[1].id) })",
    "baseline": "change({ baseline: visibleLines()[state.baseline === visibleLines()[0].id ? 1 : 0].id })",
    "front": "change({ front: !state.front })",
    "intervals": "change({ intervals: !state.intervals })",
    "loss": "change({ loss: state.loss === '0' ? '2' : '0' })",
    "rank": "change({ at: [...element('at').options].find(option => option.value !== state.at).value })",
    "column": "change({ columns: toggled(state.columns, 'seeds') })",
    "sort": "change({ sort: state.sort === 'quality' ? '-quality' : 'quality' })",
    "search": "change({ query: state.query ? '' : 'sparsity=0.6' })",
    "row": "change({ row: ordered[state.row ? 1 : 0].key })",
}
PAINTED = """async () => {{
  const start = performance.now();
  {choice};
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}}"""


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """The system's Chromium; none is downloaded."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium to open the page with")
    return {**browser_type_launch_args, "executable_path": CHROMIUM}


def invented() -> Iterator[Record]:
    yield from (reference(network) for network in NETWORKS)
    lines = itertools.product(range(25), (3, 4, 5, 6), NETWORKS, SEEDS)
    for method, steps, network, seed in lines:
        for index in range(POINTS):
            yield made(
                f"method{method:02d}",
                seed,
                index,
                config={"steps": steps},
                network=network,
                budget="short" if method % 2 else "post-training",
                file_bytes=REFERENCE_BYTES // (index + 2) + 7 * method + 100 * steps + seed,
                correct=940 - (index * (20 + method + steps)) % 900,
                validation=counted(935 - (index * (20 + method + steps)) % 900),
            )


def answers(page: Page, rounds: int = 8) -> str:
    """Milliseconds of each change: the median of several times, and the slowest."""
    taken = {
        name: [page.evaluate(PAINTED.format(choice=choice)) for _ in range(rounds)] for name, choice in CHOICES.items()
    }
    page.evaluate("change({ ...defaults(), configs: state.configs })")
    return ", ".join(f"{name} {statistics.median(times):.0f} ({max(times):.0f})" for name, times in taken.items())


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    records = list(invented())
    results = store(folder / "results", records)
    begin = time.perf_counter()
    path = render(SUITE, results, folder / "reports")
    print(
        f"\n{len(records):,} records: rendered in {time.perf_counter() - begin:.1f} s, {path.stat().st_size / 1e6:.2f} MB"
    )
    return path


def test_size(rendered: Path) -> None:
    assert rendered.stat().st_size < MEGABYTES * 1e6


def test_answers(browser: Browser, rendered: Path) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    begin = time.perf_counter()
    page.goto(rendered.as_uri())
    page.wait_for_selector("html[data-ready]", timeout=120_000)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    print(f"\nfirst paint after {paint / 1000:.1f} s, opened in {time.perf_counter() - begin:.1f} s")
    for configs in ("best", "all"):
        change = PAINTED.format(choice=f"change({{ configs: '{configs}' }})")
        print(f"ms, {configs} configurations: shown {page.evaluate(change):.0f}, {answers(page)}")
