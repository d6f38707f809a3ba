"""What the page gives to take away: files and citations that hold what is displayed."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from browsing import Open, saved, shown
from invented import SUITE, averaged, invent_task, made, reference, several, store

from benchmarks.report import render
from benchmarks.running import params
from methods.interface import Metric

HOSTILE = (
    "</script><script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\"> 100 % of $\\_{x}^~ & #1"
)
NAME = re.sub(r"[/\\]", "", HOSTILE)  # what a folder can be called
pytest_plugins = ["chromium"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    records = [
        made(
            NAME,
            index=i,
            point={HOSTILE: HOSTILE, "number": i},
            config={HOSTILE: HOSTILE},
            budget=NAME,
            notes={HOSTILE: HOSTILE},
        )
        for i in (0, 1)
    ]
    return render(SUITE, store(folder / "results", [*records, reference()]), folder / "reports")


def test_what_is_displayed_can_be_saved(opened: Open, rendered: Path) -> None:
    page = opened(rendered)
    page.evaluate("change({ sort: '-bytes', columns: ['point', 'bytes', 'quality'] })")
    rows = list(csv.DictReader(io.StringIO(saved(page, "csv"))))
    assert [row["row"] for row in rows] == shown(page) and float(rows[0]["bytes"]) == 40_000
    assert set(rows[0]) == {
        "network",
        "budget",
        "method",
        "fidelity",
        "point",
        "bytes",
        "quality",
        "quality.low",
        "quality.high",
        "row",
        "snapshot",
    }
    whole = json.loads(saved(page, "json"))
    assert [row["row"] for row in whole["rows"]] == shown(page) and whole["snapshot"] == rows[0]["snapshot"]
    assert whole["view"] == page.evaluate("wholeView()") and page.evaluate("location.hash")[1:12] in whole["view"]
    assert {(row["network"], row["budget"]) for row in [*rows, *whole["rows"]]} == {("net", "post-training")}
    table = saved(page, "latex")
    assert "\\begin{longtable}{lrrl}" in table and f"snapshot {whole['snapshot']}}}" in table
    assert "\\usepackage{booktabs}" in table and "\\usepackage[T1]{fontenc}" in table
    assert table.count(" \\\\\n") == 2 + len(rows) and r"top-1 (\%)" in table and "\\toprule" in table


FORMULAS = ("=1+1", "+1", "-1.5", "@SUM(1)", "\t=1", "\r=1", "＝1")


def test_a_spreadsheet_runs_no_text(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what the page saves nor what lies beside it; numbers stay numbers."""
    task = Metric("gain", "dB", "mean", "How much better")
    invent_task(monkeypatch, "gains", task)
    gains = {"gain": averaged(task, [-1.5, -2.5])}
    names = [name for name in FORMULAS if name.isprintable()]
    known = [made(name, task="gains", metrics=gains, point={text: 1}) for name in names for text in FORMULAS[:1]]
    known += [
        made("plain", task="gains", metrics=gains, index=0, point={text: 2}, seed=i) for i, text in enumerate(FORMULAS)
    ]
    versions = msgspec.structs.replace(known[0].provenance, cpu="=1+1")
    speed = msgspec.structs.replace(known[0].speed, device="=1+1")
    known[0] = msgspec.structs.replace(known[0], provenance=versions, speed=speed)
    path = render(SUITE, store(tmp_path / "results", known), tmp_path / "reports")
    beside = list(csv.DictReader(io.StringIO((path.parent / "records.csv").read_text(encoding="utf-8"), newline="")))
    page = opened(path)
    page.evaluate("change({ columns: ['point', 'bytes', 'quality'] })")
    displayed = list(csv.DictReader(io.StringIO(saved(page, "csv"), newline="")))
    for table in (beside, displayed):
        methods = {row["method"] for row in table}
        assert methods == {"plain", *(f"'{name}" for name in names)}
        for value in (value for row in table for value in row.values() if value[:1] in "=+-@\t\r＝" and value):
            assert float(value) < 0
    assert {row["metrics.gain.value"] for row in beside} == {row["quality"] for row in displayed} == {"-2.0"} or {
        float(row["quality"]) for row in displayed
    } == {-2.0}
    assert {row["point"][:2] for row in displayed} >= {"'=", "'+", "'-", "'@"}
    assert {row["provenance.cpu"] for row in beside} == {"a processor", "'=1+1"}


def test_latex_takes_no_bracket_for_an_option(opened: Open, tmp_path: Path) -> None:
    names = ("[9cm]", "*", "plain")
    path = render(SUITE, store(tmp_path / "results", [made(name) for name in names]), tmp_path / "reports")
    table = saved(opened(path), "latex")
    assert "\n{}[9cm] &" in table and "\n{}* &" in table and "\nplain &" in table


def test_a_caution_goes_with_the_numbers(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "caution", lambda _: "These are easy images: 5 % & no more.")
    path = render(SUITE, store(tmp_path / "results", several()), tmp_path / "reports")
    page = opened(path)
    assert "These are easy images: 5 % & no more." in page.inner_text("header")
    assert "These are easy images: 5 % &amp; no more." in (tmp_path / "reports" / "index.html").read_text()
    for text in (saved(page, "latex"), page.evaluate("viewBibtex()"), page.inner_text("footer pre")):
        assert "These are easy images: 5 \\% \\& no more" in text
    assert json.loads(saved(page, "json"))["caution"].startswith("These are easy")
    for table in (saved(page, "csv"), (path.parent / "records.csv").read_text(encoding="utf-8")):
        rows = list(csv.DictReader(io.StringIO(table)))
        assert rows and {row["caution"] for row in rows} == {"These are easy images: 5 % & no more."}
    assert all(
        "These are easy" in figure
        for figure in page.evaluate("[...document.images].map(i => decodeURIComponent(i.src))")
    )


def test_latex_takes_any_name(opened: Open, hostile: Path, tmp_path: Path) -> None:
    page = opened(hostile)
    assert page.title().startswith("RateBench")
    table = saved(page, "latex")
    body = table.partition("\\endlastfoot")[2]
    assert (
        not re.search(r"(?<!\\)[%#$]", body.replace("$-$", "").replace("$\\times$", "")) and "\\textbackslash{}" in body
    )
    entry = page.evaluate("rowBibtex(page.rows[0], [records.then(all => all[page.rows[0].records[0]])])")
    assert entry.count("{") - entry.count("\\{") == entry.count("}") - entry.count("\\}")
    if not shutil.which("pdflatex"):
        pytest.skip("all but the last step: there is no pdflatex to set the table with")
    packages = "".join(re.findall(r"\\usepackage\S*\}", table.partition("\\begin")[0]))  # those that its comment names
    source = f"\\documentclass{{article}}{packages}\\begin{{document}}\n{table}\\end{{document}}\n"
    (tmp_path / "table.tex").write_text(source, encoding="utf-8")
    subprocess.run(["pdflatex", "-halt-on-error", "table.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_no_name_and_no_note_is_run(opened: Open, hostile: Path) -> None:
    page = opened(hostile)
    for row in page.evaluate("page.rows.map(row => row.key)"):
        page.evaluate("key => goTo(page.rowByKey.get(key))", row)
        page.locator("tr.drawer table").wait_for()
    page.evaluate("goTo(page.rows.find(row => row.line.method !== 'plain'))")
    page.locator("tr.drawer table").wait_for()
    noted = page.locator("tr.drawer tr:has(th:text-is('notes')) td").inner_text()
    assert noted == f"{HOSTILE}={HOSTILE}"
    assert page.title().startswith("RateBench") and not page.query_selector_all("img[src=x]")


def test_every_view_has_a_citation_of_its_own(opened: Open, rendered: Path) -> None:
    page = opened(rendered)
    views = [page.evaluate(f"(change({{ at: '{at}' }}), viewBibtex())") for at in (4, 8, 4)]
    assert views[0] == views[2] and views[0].splitlines()[0] != views[1].splitlines()[0]
    assert page.evaluate("['', 'a', 'foobar'].map(fnv)") == ["811c9dc5", "e40c292c", "bf9cf968"]  # published for FNV-1a
