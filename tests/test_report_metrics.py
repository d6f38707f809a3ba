"""Reports of tasks whose metric is no accuracy: a mean of which less is better, and one of which more is."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browsing import Open, open_details, saved, shown
from invented import (
    PSNR,
    RMSE,
    SSIM,
    SUITE,
    Page,
    around,
    counted,
    invent_task,
    made,
    publish,
    reference,
    scored_curve,
    store,
)
from msgspec.structs import replace
from scipy.interpolate import PchipInterpolator
from scipy.special import stdtrit

from benchmarks.errors import RateBenchError
from benchmarks.evaluation.metrics import Z95
from benchmarks.records import Record, described
from benchmarks.records.rows import aggregate
from benchmarks.report import figures, render, series
from methods.interface import Metric

pytest_plugins = ["chromium"]
# Files and errors of two methods: "alpha" is the better one at every size. The reference's error is 1 mm.
SIZES = {"alpha": [9000, 6000, 3000], "beta": [8000, 5000, 2900]}
ERRORS = {"alpha": [1.2, 1.5, 4.0], "beta": [1.9, 2.4, 6.0]}
REPORTED = """
[[row]]
task = "positions"
network = "net"
point = { sparsity = 0.5 }
metric = "rmse"
value = 1.0
size = { value = 5, unit = "ratio", counts = "file" }
source = "Table 1"
"""
CLAIM = """
[[claim]]
text = "alpha beats beta"
source = "Section 4"
task = "positions"
budget = "post-training"
at = "bytes"
better = { method = "alpha" }
worse = { method = "beta" }
"""


def positions() -> list[Record]:
    """A task that measures an error in millimetres; 24 items that lie 0.1 mm to either side of their mean."""
    curves = [
        record
        for method, sizes in SIZES.items()
        for record in scored_curve(
            method, "positions", sizes, [{"rmse": around(RMSE, error, 0.1)} for error in ERRORS[method]]
        )
    ]
    return [*curves, replace(reference(), task="positions", metrics={"rmse": around(RMSE, 1.0, 0.1)})]


def pictures() -> list[Record]:
    """Image coding: PSNR in dB and a second metric that not every record has; there is no reference network."""
    both = [{"psnr": around(PSNR, psnr), "ssim": around(SSIM, psnr / 40, 0.01)} for psnr in (34.0, 31.5, 27.25)]
    records = [
        *scored_curve("alpha", "pictures", SIZES["alpha"], both),
        *scored_curve("beta", "pictures", SIZES["beta"], [{"psnr": one["psnr"]} for one in both]),
    ]
    seeds = [made("gamma", seed, task="pictures", metrics={"psnr": around(PSNR, 30.0 + seed)}) for seed in (0, 1, 2)]
    return [replace(r, rate=replace(r.rate, bits_per_weight=None)) for r in (*records, *seeds)]


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("positions")
    with pytest.MonkeyPatch.context() as patch:
        invent_task(patch, "positions", RMSE)
        publish(folder / "alpha", patch)
        (folder / "alpha" / "reported.toml").write_text(REPORTED)
        (folder / "alpha" / "claims.toml").write_text(CLAIM)
        return render(SUITE, store(folder / "results", positions()), folder / "reports")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patch:
        invent_task(patch, "pictures", PSNR, SSIM)
        return render(SUITE, store(folder / "results", pictures()), folder / "reports")


def words(path: Path) -> str:
    """All that a page and its figures say, without what an interval of 95 % is called and without scripts and styles."""
    page = path.read_text(encoding="utf-8")
    page = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)
    return re.sub(r"95(&nbsp;| )%|%[0-9A-F]{2}", "", page)


@pytest.mark.parametrize("which", ["errors", "images"])
def test_nothing_is_called_an_accuracy(which: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(which)
    said = words(path)
    for word in ("top-1", "accuracy", "Accuracy", "classif", "%", "Wilson"):
        assert word not in re.sub(r"<cite>.*?</cite>|non-zero <small>%</small>", "", said), word
    assert ("rmse" in said and "mm" in said) if which == "errors" else ("psnr" in said and "dB" in said)
    data = Page(path).data
    assert "%" not in json.dumps([one for one in data["columns"] if one["key"] != "nonzero"]).replace("95 %", "")
    assert not re.search("top-1|accuracy", (path.parent / "records.csv").read_text(encoding="utf-8"))


def test_numbers_are_shown_in_the_metrics_unit(errors: Path, images: Path) -> None:
    data = Page(errors).data
    (metric,) = data["metrics"]
    assert (metric["name"], metric["unit"], metric["better"], metric["decimals"]) == ("rmse", "mm", -1, 3)
    assert data["axis"]["title"] == "rmse, mm (less is better)" and data["axis"]["view"] is None
    place = [column["key"] for column in data["columns"]].index("quality")
    assert [data["columns"][place][key] for key in ("head", "unit", "help")] == [
        "rmse",
        "mm",
        "Root-mean-square error of the positions, with the 95 % interval over test items and seeds",
    ]
    (row,) = [row for row in data["rows"] if row["texts"][place] == "1.200"]
    half = stdtrit(23, 0.975) * 0.1 * math.sqrt(24 / 23 / 24)  # Student's, 24 items 0.1 to either side
    assert row["values"][place] == pytest.approx(1.2)
    assert row["intervals"] == [pytest.approx([1.2 - half, 1.2 + half])]
    (network,) = data["networks"]
    assert (network["name"], network["bytes"]) == ("net", 40_000)
    assert network["reference"] == pytest.approx(1.0) == data["rows"][network["row"]]["values"][place]
    assert [lost["words"] for lost in data["boards"][0]["losses"]] == ["0.5 per cent", "1 per cent", "2 per cent"]
    assert data["boards"][0]["losses"][1]["score"] == pytest.approx(1.01)
    assert data["reported"][0]["quality"] == 1.0
    data = Page(images).data
    keys = [column["key"] for column in data["columns"]]
    assert [column["key"] for column in data["columns"] if column["group"] == "rate" and column["shown"]] == [
        "bytes",
        "ratio",
        "bits",
    ]
    first, other = keys.index("quality"), keys.index("quality.ssim")
    assert other == first + 1 and (data["columns"][other]["shown"], data["columns"][other]["unit"]) == (False, "")
    texts = {data["lines"][row["line"]]["method"]: row["texts"] for row in data["rows"][::-1]}
    assert [texts[method][other] for method in ("alpha", "beta", "gamma")] == ["0.8500", "–", "–"]
    assert texts["gamma"][first] == "31.00"
    assert all(row["values"][keys.index("bits")] == 24 / row["values"][keys.index("ratio")] for row in data["rows"])
    whole = {"budget": "post-training", "reference": None, "bytes": 40_000, "row": None}
    assert data["networks"] == [{"name": "net", **whole}]
    assert data["boards"][0]["losses"] == []
    assert data["axis"]["title"] == "psnr, dB"


def test_a_mean_over_seeds_is_widened_by_their_spread() -> None:
    """Three seeds at 30, 31 and 32 dB on the same items: at least 1.96 standard errors, which count the seeds' variance."""
    (row,) = aggregate([r for r in pictures() if r.method == "gamma"])
    with pytest.MonkeyPatch.context() as patch:
        invent_task(patch, "pictures", PSNR, SSIM)
        quality = row.quality
    assert quality.value == pytest.approx(31) and quality.metric is PSNR
    mean_square = 1 + 2 / 3  # of the items' deviations from 31 dB, over the three seeds
    items = mean_square * 24 / 23 / 24
    assert quality.standard_error == pytest.approx(math.sqrt(items + 1 / 3))
    assert quality.interval == pytest.approx([31 - Z95 * quality.standard_error, 31 + Z95 * quality.standard_error])
    assert row.score("ssim") is None


def test_a_task_that_is_gone_leaves_numbers_without_a_unit(tmp_path: Path) -> None:
    path = render(SUITE, store(tmp_path / "results", positions()), tmp_path / "reports")
    data = Page(path).data
    assert [data["metrics"][0][key] for key in ("name", "unit", "kind")] == ["rmse", "", "mean"]
    assert described.score_text(described.metric("positions", "rmse"), 1.2) == "1.20"
    top1 = described.metric("digits", "top-1")
    assert described.score_text(top1, 0.931) == "93.10 %"
    assert described.interval_text(top1, 0.921, 0.9402) == "92.10 … 94.02"


def test_one_metric_compares_a_suite(tmp_path: Path) -> None:
    results = store(tmp_path / "results", [*positions(), reference()])
    with pytest.raises(RateBenchError, match=r"are compared by different metrics \(rmse, top-1\): run the cells"):
        render(SUITE, results, tmp_path / "reports")


def test_counts_stay_whole_where_a_record_lacks_a_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record from before the task had a second metric leaves the others' integers integers."""
    second = Metric("top-5", "%", "proportion", "Among five", 100.0)
    invent_task(monkeypatch, "many", described.metric("digits", "top-1"), second)
    old = made(task="many")
    new = made("beta", task="many", metrics={"top-1": counted(900), "top-5": counted(990)})
    path = render(SUITE, store(tmp_path / "results", [old, new]), tmp_path / "reports")
    table = pd.read_csv(path.parent / "records.csv", dtype=str, keep_default_na=False)
    assert sorted(table["metrics.top-5.total"]) == ["", "990"] and set(table["metrics.top-1.items"]) == {"1000"}


def test_figures_show_all_points_of_a_mean_and_a_view_of_a_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proportion of which less is better is cut off above the reference."""
    loss = Metric("error", "%", "proportion", "Wrong ones", 100.0, more_is_better=False)
    invent_task(monkeypatch, "positions", RMSE)
    rows = aggregate(positions())
    (axes, *_) = figures.figure(RMSE, rows[-1], list(series.series(rows))).axes
    assert axes.get_ylabel() == "rmse, mm (less is better)" and axes.get_ylim()[1] > 6
    invent_task(monkeypatch, "wrong", loss)
    errors = {"alpha": [60, 100, 900], "plain": [50]}
    records = [
        made(method, index=i, task="wrong", metrics={"error": counted(count)}, file_bytes=40_000 // (i + 1))
        for method, counts in errors.items()
        for i, count in enumerate(counts)
    ]
    rows = aggregate(records)
    (axes, *_) = figures.figure(loss, rows[-1], list(series.series(rows))).axes
    low, high = axes.get_ylim()
    assert high == pytest.approx(5 + 10 + 0.3) and 0 < low < 5


def test_less_is_better_in_the_plot_and_the_ranking(opened: Open, errors: Path) -> None:
    page = opened(errors)
    assert page.evaluate("element('plot').layout.yaxis.title.text") == "rmse, mm (less is better)"
    assert page.evaluate("element('plot').layout.annotations.at(-1).text") == "reference 1.000 mm"
    assert not page.locator("input[name=y][value=near]").is_visible()  # all points are in view
    best = page.evaluate("front(page.rows, 'bytes').map(row => value(row, 'bytes'))")
    assert sorted(best) == [
        2900,
        3000,
        5000,
        6000,
        9000,
        40_000,
    ]  # 8,000 bytes with 1.9 mm are beaten by 6,000 with 1.5
    page.evaluate("change({ at: '6' })")
    ranked = page.evaluate("standing().map(({ curve, rank, at }) => [curve.method, rank, at[4]])")
    wanted = [
        [method, rank, pytest.approx(np.interp(np.log(40_000 / 6), np.log(SIZES[method][::-1]), ERRORS[method][::-1]))]
        for method, rank in (("alpha", 1), ("beta", 2))
    ]
    assert ranked == wanted
    words = page.inner_text("section[aria-labelledby=ranking]")
    assert "on the better side" in words and "rmse mm" in words and "above the reference" in words
    assert "less is better" in page.inner_text(".lead")
    hover = page.evaluate("hover(page.rows[0])")
    assert "rmse 1.200 mm (95 %: 1.157 to 1.243)" in hover and "bits per weight" in hover


def test_bd_rates_are_scipys_where_less_is_better(opened: Open, errors: Path) -> None:
    """The better method needs fewer bytes at equal error; the sides swapped give the reciprocal."""
    page = opened(errors)
    line = "const line = name => page.lines.find(line => line.method === name);"
    ours, theirs = page.evaluate(
        f"() => {{ {line} return [['alpha', 'beta'], ['beta', 'alpha']].map(([a, b]) => bdRate(line(a), line(b))); }}"
    )

    def mean(method: str, low: float, high: float) -> float:
        cubic = PchipInterpolator(ERRORS[method], np.log(SIZES[method]))
        return float(cubic.integrate(low, high)) / (high - low)

    wanted = 100 * (math.exp(mean("alpha", 1.9, 4.0) - mean("beta", 1.9, 4.0)) - 1)
    assert ours["percent"] == pytest.approx(wanted, rel=1e-9) and wanted < -10
    assert [ours["from"], ours["to"]] == pytest.approx([1.9, 4.0])
    assert (1 + ours["percent"] / 100) * (1 + theirs["percent"] / 100) == pytest.approx(1)
    page.select_option("#baseline", page.evaluate(f"(() => {{ {line} return line('beta').id; }})()"))
    told = page.locator("#bd tbody tr:has-text('alpha')").inner_text()
    assert "−" in told and told.endswith("1.900 to 4.000") and "rmse mm" in page.inner_text("#bd thead")


def test_verdicts_and_claims_follow_the_metric(opened: Open, errors: Path) -> None:
    page = opened(errors)
    open_details(page)
    assert page.inner_text("td .verdict.worse") == "0.200 mm above reported"
    assert page.inner_text("tr:has(td .verdict.worse)").count("+0.200 ± 0.0417") == 1  # twice 0.1 × √(24 / 23 / 24)
    claims = page.locator("section[aria-labelledby=claims]")
    assert set(claims.locator("td .verdict").all_inner_texts()) == {"supported"}
    assert "difference mm, 95 %" in claims.inner_text() and "−" in claims.locator("tbody td.number").nth(4).inner_text()


def test_a_row_says_all_its_metrics(opened: Open, images: Path) -> None:
    page = opened(images)
    assert page.locator("input[name=x][value=bits] + span").text_content() == "bits per pixel"
    assert "rmse" not in page.content() and "31.00 dB" in page.evaluate("hover(page.rows.at(-1))")
    assert "bits per weight" not in page.evaluate("hover(page.rows[0])")
    page.evaluate("change({ columns: ['quality', 'quality.ssim'] })")
    head = page.locator("#rows thead tr:last-child").inner_text()
    assert "psnr dB" in head and "ssim" in head and "%" not in page.inner_text("#rows")
    cells = page.locator("#rows tbody tr[data-key*=alpha]").first.locator("td").all_inner_texts()
    assert cells[0].startswith("34.00 33.") and cells[1].startswith("0.8500 0.84")
    rows = {row["method"]: row for row in reversed(list(csv.DictReader(io.StringIO(saved(page, "csv")))))}
    assert float(rows["alpha"]["quality.ssim.low"]) < 0.85 < float(rows["alpha"]["quality.ssim.high"])
    assert rows["beta"]["quality.ssim"] == rows["beta"]["quality.ssim.low"] == ""
    assert "psnr (dB)" in saved(page, "latex")
    page.click("#rows tbody tr[data-key*=alpha] .open >> nth=0")
    page.locator("tr.drawer table").wait_for()
    said = page.locator("tr.drawer tr:has(th:text-is('quality')) td").inner_text()
    assert said.startswith("psnr 34.00 dB (33.57 to 34.43), over 24 test items; ssim 0.8500 (")
    assert "psnr 34.00 dB, files" in page.evaluate("rowBibtex(page.rows[0], [records.then(all => all[0])])")
    page.evaluate("change({ sort: '-quality.ssim' })")
    assert [key.split("/")[1] for key in shown(page)[:4]] == [
        "alpha",
        "alpha",
        "alpha",
        "beta",
    ]  # what is not known is last
