"""Tables of the page and the plot as files, and the commands that reproduce a row."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import struct
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from browsing import Open
from invented import SUITE, made, reference, several, store
from playwright.sync_api import Page

from benchmarks.fingerprint import ROOT
from benchmarks.report import render

TABLE = """
<div class="scroll"><table data-export-name="by hand">
<thead><tr><th colspan="3">a group</th></tr>
<tr><th>line</th><th class="number">file <small>bytes</small></th><th class="number">top-1 <small>%</small></th></tr></thead>
<tbody>
<tr><th><svg></svg><button>a, "b" &amp; c</button></th><td class="number">1,234,567</td>
<td class="number">93.10 <small class="interval">92.1–94.0</small></td></tr>
<tr hidden><th>hidden</th><td>0</td><td>0</td></tr>
<tr><th>=1+1</th><td class="number">−12.5 % </td><td class="number">–</td></tr>
<tr><th>one cell</th></tr>
</tbody></table></div>
"""
pytest_plugins = ["chromium"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a table by hand, which is complete when its script starts."""
    folder = tmp_path_factory.mktemp("saved")
    page = render(SUITE, store(folder / "results", several()), folder / "reports")
    page.write_text(page.read_text(encoding="utf-8").replace("</main>", f"{TABLE}</main>"), encoding="utf-8")
    return page


def snapshot(path: Path) -> str:
    return str(json.loads((path.parent / "snapshot.json").read_bytes())["snapshot"])


def downloaded(page: Page, selector: str) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.click(selector)
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_any_table_is_saved_as_numbers(opened: Open, path: Path) -> None:
    """Wrong code that this finds: "1,234,567" as text, an interval within its number, rows that are hidden, no network."""
    name, content = downloaded(opened(path), "[aria-label='by hand as CSV']")
    assert name == f"ratebench-{SUITE}-net-post-training-by_hand-{snapshot(path)}.csv"
    assert list(csv.reader(io.StringIO(content.decode()))) == [
        ["network", "budget", "line", "file (bytes)", "top-1 (%)", "top-1 (%), interval", "snapshot"],
        ["net", "post-training", 'a, "b" & c', "1234567", "93.1", "92.1–94.0", snapshot(path)],
        ["net", "post-training", "'=1+1", "-12.5", "–", "", snapshot(path)],
        ["net", "post-training", "one cell", "", "", "", snapshot(path)],
    ]


def test_any_table_is_saved_for_latex(opened: Open, path: Path) -> None:
    name, content = downloaded(opened(path), "[aria-label='by hand as LaTeX']")
    assert name == f"ratebench-{SUITE}-net-post-training-by_hand-{snapshot(path)}.tex"
    table = content.decode()
    lines = [line for line in table.splitlines() if line.endswith(" \\\\")]
    assert lines[0] == lines[1] == "line & file (bytes) & top-1 (\\%) \\\\"
    assert lines[2:] == [
        "a, \\textquotedbl{}b\\textquotedbl{} \\& c & 1,234,567 & 93.10 [92.1--94.0] \\\\",
        "=1+1 & $-$12.5 \\% & -- \\\\",
        "one cell &  &  \\\\",
    ]
    assert "\\begin{longtable}{lrr}" in table and table.rstrip().endswith("\\end{longtable}")
    assert (
        f"\\caption{{RateBench, suite {SUITE}, network net, budget post-training, by hand, snapshot {snapshot(path)}}}\\\\\n"
        in table
    )
    order = ["\\caption", "\\toprule", "\\endfirsthead", "\\endhead", "\\endfoot", "\\endlastfoot", "one cell"]
    places = [table.index(word) for word in order]
    assert places == sorted(places)


def test_a_table_of_all_networks_has_one_column_for_them(opened: Open, path: Path) -> None:
    page = opened(path)
    page.eval_on_selector(
        "[data-export-name='by hand'] tr:nth-child(2) th", "head => { head.textContent = 'network'; }"
    )
    assert downloaded(page, "[aria-label='by hand as CSV']")[1].decode().startswith("budget,network,file (bytes),")


def test_the_plot_is_saved_with_a_legend(opened: Open, path: Path) -> None:
    """Wrong code that this finds: Plotly's own button, whose image names no line and whose file is called newplot.png."""
    page = opened(path)
    name, content = downloaded(page, "[data-export=png]")
    assert name == f"ratebench-{SUITE}-net-post-training-{snapshot(path)}.png"
    assert content.startswith(b"\x89PNG") and struct.unpack(">I", content[16:20]) == (2400,)
    drawn = page.evaluate("""async () => {
        const real = Plotly.downloadImage;
        let asked;
        Plotly.downloadImage = (...all) => { asked = all; };
        picture();
        Plotly.downloadImage = real;
        return decodeURIComponent(await Plotly.toImage(asked[0], { ...asked[1], format: "svg", scale: 1 }));
    }""")
    names = page.evaluate("drawnLines().map(line => line.name)")
    assert names and all(f">{name}</text>" in drawn for name in names)
    assert f">RateBench, suite {SUITE}, network net, budget post-training, snapshot {snapshot(path)}</text>" in drawn
    assert drawn.count('class="legendtext"') == len(names)  # neither the front nor a trace without rows has an entry


def test_lines_that_are_drawn_as_one_are_named_by_their_methods(opened: Open, path: Path) -> None:
    page = opened(path)
    keys = "page.rows.filter(row => row.line.network === 'net').map(row => row.key)"
    assert page.evaluate(f"nameTrace({{ customdata: [null, ...{keys}] }}).name").split(", ") == ["alpha", "plain"]
    assert page.evaluate("nameTrace({ customdata: [null] }).showlegend") is False


def reproduced(page: Page, row: str) -> str:
    page.evaluate(f"goTo(page.rows.find({row}))")
    page.locator("tr.drawer .reproduce summary").click()
    return page.locator("tr.drawer .reproduce pre").inner_text()


def test_a_saved_plot_has_light_colours(opened: Open, path: Path) -> None:
    """Wrong code that this finds: the colours of the page, light lines on a dark ground on a printed page."""
    page = opened(path)
    asked = """() => {
        const real = Plotly.downloadImage;
        let asked;
        Plotly.downloadImage = (known) => { asked = known; };
        picture();
        Plotly.downloadImage = real;
        return [asked.layout.paper_bgcolor, asked.layout.font.color, asked.layout.xaxis.gridcolor];
    }"""
    light = page.evaluate(asked)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(asked) == light and light[0] == "#fff"
    assert page.evaluate("coloursOf(document.documentElement)('--paper')") != "#fff"


def test_a_part_of_the_plot_is_saved_as_it_is_seen(opened: Open, path: Path) -> None:
    page = opened(path)
    found = page.evaluate("""async () => {
        await Plotly.relayout(element("plot"), { "xaxis.range": [3.5, 4], "yaxis.range": [80, 90] });
        const real = Plotly.downloadImage;
        let asked;
        Plotly.downloadImage = (known) => { asked = known; };
        picture();
        Plotly.downloadImage = real;
        return [asked.layout.xaxis.range, asked.layout.yaxis.range];
    }""")
    assert found == [[3.5, 4], [80, 90]]


def test_what_a_method_needs_beside_the_suite_is_installed(opened: Open, tmp_path: Path) -> None:
    known = [made("nnc", file_bytes=9000), made("uniform"), reference()]
    page = opened(render(SUITE, store(tmp_path / "results", known), tmp_path / "reports"))
    text = reproduced(page, "row => row.line.method === 'nnc'")
    (line,) = (line for line in text.splitlines() if "--no-deps" in line)
    file = line.split("'")[1]
    assert line == f"pip install --no-deps -r '{file}'" and "nncodec==" in (ROOT / file).read_text()
    assert "--no-deps" not in reproduced(page, "row => row.line.method === 'uniform'")


def test_a_row_says_how_to_reproduce_it(opened: Open, path: Path) -> None:
    """All seeds, one checkout for all. Wrong code that this finds: results in a folder that has them, the first seed only."""
    text = reproduced(opened(path), "row => row.line.method === 'alpha'")
    known = [made(seed=seed) for seed in (0, 1, 2)]
    assert text.count("git checkout " + "c" * 40) == text.count("pip install -c constraints.txt -e '.[peers]'") == 1
    for record in known:
        command = f"{record.provenance.command} --results reproduced"
        check = f"echo '{'a' * 64}  reproduced/{record.id}.rbn' | sha256sum --check"
        assert f"\n{command}\n{check}" in text


@pytest.mark.parametrize("name", ["plain words", "it's; touch hacked", '"$(touch hacked)"'])
def test_a_shell_checks_the_file(opened: Open, tmp_path: Path, name: str) -> None:
    """Without what is installed and measured: the right file passes, another one does not, and no name is run."""
    content = b"the artefact"
    changes = {"commit": None, "dirty": True, "artefact_sha256": hashlib.sha256(content).hexdigest()}
    place = msgspec.structs.replace(made(name).provenance, **changes)
    record = made(name, provenance=place)
    page = opened(render(SUITE, store(tmp_path / "results", [record, reference()]), tmp_path / "reports"))
    text = reproduced(page, "row => row.line.method !== 'plain'")
    assert "# the commit is not known" in text and "# measured with changes" in text and "git checkout" not in text
    script = "\n".join(line for line in text.splitlines() if line.startswith(("#", "echo")))
    file = tmp_path / "reproduced" / f"{record.id}.rbn"
    file.parent.mkdir(parents=True)

    def run(found: bytes) -> subprocess.CompletedProcess[Any]:
        file.write_bytes(found)
        return subprocess.run(["sh", "-ec", script], cwd=tmp_path, capture_output=True, check=False)

    assert run(content).returncode == 0 and run(b"another one").returncode != 0
    assert not (tmp_path / "hacked").exists()


def test_seeds_of_other_commits_are_checked_out_in_turn(opened: Open, tmp_path: Path) -> None:
    commits = ["a" * 40, "a" * 40, "b" * 40]
    places = [msgspec.structs.replace(made(seed=seed).provenance, commit=commit) for seed, commit in enumerate(commits)]
    known = [made(seed=seed, provenance=place) for seed, place in enumerate(places)]
    page = opened(render(SUITE, store(tmp_path / "results", [*known, reference()]), tmp_path / "reports"))
    lines = reproduced(page, "row => row.line.method === 'alpha'").splitlines()
    kinds = [line.split()[0] + line.split()[-1][:4] for line in lines if line.startswith(("git", "ratebench"))]
    assert kinds == ["git" + "aaaa", "ratebenchrepr", "ratebenchrepr", "git" + "bbbb", "ratebenchrepr"]
