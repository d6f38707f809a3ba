"""Citations resolve: they name the snapshot, the commit that has it, the version, and the addresses that the project has."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from browsing import Open, serious
from invented import SUITE, Page, made, reference, several, store

from benchmarks.errors import RateBenchError
from benchmarks.fingerprint import ROOT
from benchmarks.records import history
from benchmarks.records.snapshot import snapshot
from benchmarks.report import citation, jinja, render
from benchmarks.running import params

pytest_plugins = ["chromium"]
URL, DOI = "https://example.org/ratebench", "10.1234/a.b"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=b", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def committed(tmp_path: Path) -> tuple[Path, str]:
    """A checkout with the results of `several`, and the commit that brought them, which is not the last one."""
    git(tmp_path, "init", "-q")
    store(tmp_path / "results", several())
    git(tmp_path, "add", "results")
    git(tmp_path, "commit", "-qm", "records")
    name = git(tmp_path, "rev-parse", "HEAD")
    git(tmp_path, "commit", "-qm", "more", "--allow-empty")
    return tmp_path, name


def addressed(folder: Path, patch: pytest.MonkeyPatch, **addresses: str) -> None:
    place = folder / "settings.cff"
    place.write_text(yaml.safe_dump(addresses))
    patch.setattr(citation, "SETTINGS", place)


def test_every_citation_resolves(
    opened: Open, committed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkout, commit = committed
    addressed(tmp_path, monkeypatch, url=URL, doi=DOI)
    name = snapshot(checkout / "results", SUITE)
    path = render(SUITE, checkout / "results", checkout / "reports")
    page = opened(path)
    row = "rowBibtex(page.rows[0], page.rows[0].records.map(i => records.then(all => all[i])))"
    for entry in (page.inner_text("footer pre"), page.evaluate("viewBibtex()"), page.evaluate(row)):
        assert name in entry.splitlines()[0]
        fields = dict(re.findall(r"^  (\w+) *= \{(.*)\},?$", entry, re.M))
        assert fields.keys() == {"title", "author", "year", "version", "url", "doi", "note"}
        assert (fields["url"], fields["doi"], fields["version"]) == (URL, DOI, jinja.version())
        assert f"snapshot {name}" in fields["note"].lower() and f"commit {commit}" in fields["note"]
    assert f"git checkout {commit}" in page.inner_text("footer")
    cff = yaml.safe_load((path.parent / "CITATION.cff").read_text())
    assert (cff["commit"], cff["url"], cff["doi"], cff["version"]) == (commit, URL, DOI, jinja.version())
    assert cff["identifiers"][0]["value"] == name and cff["cff-version"] == "1.2.0"
    front = opened(checkout / "reports" / "index.html", ready="main")
    assert all(word in front.inner_text("#cite ~ pre") for word in (URL, DOI, f"suite {SUITE}: snapshot {name}"))


def test_what_the_project_does_not_have_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addressed(tmp_path, monkeypatch)
    path = render(SUITE, store(tmp_path / "results", several()), tmp_path / "reports")
    text = path.read_text(encoding="utf-8")
    entry = text[text.index("@misc{ratebench-") :].partition("</code>")[0]
    assert "version" in entry and not re.search("url|doi|commit|None|http", entry)
    assert f"git checkout $(ratebench snapshot {snapshot(tmp_path / 'results', SUITE)})" in text
    assert not {"url", "doi", "commit"} & yaml.safe_load((path.parent / "CITATION.cff").read_text()).keys()
    monkeypatch.setattr(citation, "SETTINGS", tmp_path / "none.cff")
    assert citation.addresses() == {"url": "", "doi": ""}


@pytest.mark.parametrize(
    ("name", "value"),
    [("url", "example.org"), ("url", "https://a}b"), ("doi", "https://doi.org/10.1234/a"), ("doi", "9")],
)
def test_an_address_of_another_form_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    addressed(tmp_path, monkeypatch, **{name: value})
    with pytest.raises(
        RateBenchError, match=rf"settings\.cff, {name}: '.*' is not of the form .*: correct it, or remove"
    ):
        render(SUITE, store(tmp_path / "results", several()), tmp_path / "reports")
    assert not (tmp_path / "reports").exists()


def test_later_commits_change_nothing_in_a_report(committed: tuple[Path, str]) -> None:
    checkout, _ = committed
    first = render(SUITE, checkout / "results", checkout / "reports")
    files = {path.name: path.read_bytes() for path in first.parent.iterdir()}
    git(checkout, "add", "reports")
    git(checkout, "commit", "-qm", "report")
    render(SUITE, checkout / "results", checkout / "reports")
    assert files == {path.name: path.read_bytes() for path in first.parent.iterdir()}
    assert not git(checkout, "status", "--porcelain")


def test_figures_name_the_snapshot(tmp_path: Path) -> None:
    results = store(tmp_path / "results", several())
    folder = render(SUITE, results, tmp_path / "reports").parent
    origin = f"RateBench, suite {SUITE}, snapshot {snapshot(results, SUITE)}"
    figures = [path for path in folder.iterdir() if path.suffix in (".svg", ".pdf")]
    assert len(figures) == 6
    for path in figures:
        wanted = f"/Subject ({origin})" if path.suffix == ".pdf" else f"<dc:description>{origin}</dc:description>"
        assert wanted.encode() in path.read_bytes(), path.name


def test_the_citation_of_the_suite_agrees_with_the_rest() -> None:
    known = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (known["version"], known["license"]) == (project["version"], project["license"])
    assert known["authors"] == [{"name": citation.AUTHOR}] and known["title"] == citation.TITLE
    assert citation.addresses() == {name: known.get(name, "") for name in ("url", "doi")}


def test_the_front_page_introduces_every_suite(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "caution", lambda suite: "Few images." if suite == "second" else "")
    results = store(
        tmp_path / "results", [*several(), made("fine", correct=945, file_bytes=5_000, budget="short", epochs=5)]
    )
    render(SUITE, results, tmp_path / "reports")
    store(tmp_path / "results", [reference(), made(suite="second")])
    render("second", tmp_path / "results", tmp_path / "reports")
    index = tmp_path / "reports" / "index.html"
    assert Page(index).links == [f"{SUITE}/index.html", "second/index.html"] and not Page(index).scripts
    for scheme, width in (("light", 1440), ("dark", 390)):
        page = opened(index, ready="main", color_scheme=scheme, viewport={"width": width, "height": 900})
        assert serious(page) == "[]" and page.evaluate("document.documentElement.scrollWidth") <= width
        first, second = page.locator("section.suite").all()
        words = (
            "net, short, 5 epochs: within 1 point of the reference, the smallest file is at most 5,000 bytes (8.0×) by"
        )
        assert f"{words} fine." in first.inner_text() and "by plain" not in first.inner_text()
        assert "net, other" in first.inner_text() and "12 records, the last on 2026-01-03" in first.inner_text()
        assert "Few images." in second.inner_text() and "Few images." not in first.inner_text()
        assert page.locator("#cite ~ pre").count() == page.locator("#run ~ pre").count() == 1


def test_the_front_page_leaves_out_what_git_ignores(tmp_path: Path) -> None:
    results = store(tmp_path / "results", [*several(), made(suite="second")])
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("reports/second/\n")
    for suite in (SUITE, "second"):
        render(suite, results, tmp_path / "reports")
    assert Page(tmp_path / "reports" / "index.html").links == [f"{SUITE}/index.html"]
    (tmp_path / ".gitignore").write_text("")
    render(SUITE, results, tmp_path / "reports")
    assert Page(tmp_path / "reports" / "index.html").links == [f"{SUITE}/index.html", "second/index.html"]


def test_the_commit_is_that_of_the_suite(committed: tuple[Path, str]) -> None:
    """Records of other suites may be newer."""
    checkout, commit = committed
    store(checkout / "results", [made(suite="second")])
    git(checkout, "add", "results")
    git(checkout, "commit", "-qm", "another suite")
    assert history.commit(checkout / "results", SUITE, snapshot(checkout / "results", SUITE)) == commit
