"""The report: right numbers, the same bytes every time, nothing fetched, nothing of a record run."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from invented import CARD, REFERENCE_BYTES, SUITE, Page, counted, made, reference, several, store

from benchmarks import records as recorded
from benchmarks.errors import RateBenchError, RecordError
from benchmarks.papers import answers, reported
from benchmarks.papers.verdicts import Verdict
from benchmarks.records import Counted, Record, compare, described, files, migration
from benchmarks.records.rows import aggregate, references
from benchmarks.records.schema import ROLES
from benchmarks.records.snapshot import snapshot
from benchmarks.records.table import csv, plain_json
from benchmarks.report import costs, payload, render, series
from benchmarks.tasks.kinds.metrics import TOP1

HOSTILE = (
    "</script><script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\"><!-- $\\frac% {{ 7*7 }}"
)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    folder = tmp_path_factory.mktemp("report")
    return render(SUITE, store(folder / "results", several()), folder / "reports"), several()


def test_same_records_give_the_same_files(rendered: tuple[Path, list[Record]], tmp_path: Path) -> None:
    page, records = rendered
    again = render(SUITE, store(tmp_path / "results", records[::-1]), tmp_path / "reports")
    names = sorted(path.name for path in page.parent.iterdir())
    assert names == [
        "CITATION.cff",
        "index.html",
        "rate-quality-net-post-training.pdf",
        "rate-quality-net-post-training.svg",
        "rate-quality-other-post-training.pdf",
        "rate-quality-other-post-training.svg",
        "rate-quality-other-short.pdf",
        "rate-quality-other-short.svg",
        "records.csv",
        "snapshot.json",
    ]
    for name in names:
        assert (page.parent / name).read_bytes() == (again.parent / name).read_bytes(), name


def test_page_is_small_and_fetches_nothing(rendered: tuple[Path, list[Record]]) -> None:
    page = Page(rendered[0])
    assert len(page.text.encode()) < 3_000_000
    assert all(address.startswith(("data:", "#")) for address in page.resources)
    assert all(re.match(r"#|https://(doi|arxiv)\.org/", address) for address in page.links)
    assert not page.handlers
    own = [text for name, text in page.scripts.items() if name.startswith("script")]
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|https?://(?!www\.w3\.org/2000/svg)", "".join(own))
    assert not re.search(r"url\(|@import", page.text.partition("</style>")[0])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page.text)
    assert policy and policy[1].startswith("default-src 'none'") and "'unsafe-inline'; script-src 'sha256-" in policy[1]


def test_every_number_is_its_record(rendered: tuple[Path, list[Record]]) -> None:
    page, records = Page(rendered[0]), {r.id: r for r in rendered[1]}
    assert {r.pop("id"): r.pop("current") for r in page.records} == dict.fromkeys(records)
    for shown in page.records:
        known = msgspec.to_builtins(records[shown["id"]])
        for name in ("latency_ms_batch1", "latency_ms_batch128"):  # of a single run: they compare nothing
            del known["speed"][name]
        assert {**shown, "current": None} == {**known, "current": None}
    keys = [column["key"] for column in page.data["columns"]]
    for row in page.data["rows"]:
        own = [records[page.records[i]["id"]] for i in row["records"]]
        values, texts = dict(zip(keys, row["values"], strict=True)), dict(zip(keys, row["texts"], strict=True))
        check_row(row, page.data["lines"][row["line"]], values, texts, own)


def check_row(row: Any, line: Any, values: dict[str, Any], texts: dict[str, str], own: list[Record]) -> None:
    """Compare one row, as data and as text, with the records behind it."""
    n = len(own)
    mean = sum(r.rate.file_bytes for r in own) / n
    assert (values["seeds"], values["network"]) == (n, own[0].network)
    assert values["bytes"] == pytest.approx(mean, rel=1e-12)
    assert values["ratio"] == pytest.approx(REFERENCE_BYTES / mean, rel=1e-12)
    assert values["bits"] == pytest.approx(sum(r.rate.bits_per_weight for r in own) / n, rel=1e-12)
    assert values["quality"] == pytest.approx(100 * sum(r.quality.total for r in own) / (1000 * n), rel=1e-12)
    assert values["nonzero"] == pytest.approx(100 * sum(r.counted.nonzero for r in own) / (10_000 * n), rel=1e-12)
    assert values["macs"] == 1_234_567 and values["elements"] == 10_000
    assert values["hours"] == pytest.approx(12.5 * n / 3600)
    assert (line["method"], line["fidelity"]) == (own[0].method, own[0].fidelity)
    assert texts["bytes"] == f"{mean:,.0f}"
    assert texts["ratio"] == f"{REFERENCE_BYTES / mean:,.2f}"
    assert texts["quality"] == f"{values['quality']:.2f}"
    assert texts["nonzero"] == f"{values['nonzero']:.1f}"
    assert texts["macs"] == "1.23"
    roles = dict(zip(ROLES, row["roles"], strict=True))
    assert roles["weights"] == pytest.approx(mean - 300) and roles["norm_bias"] == 200


def test_csv_reads_back_exactly(rendered: tuple[Path, list[Record]]) -> None:
    results = rendered[0].parents[2] / "results"
    name = snapshot(results, SUITE)
    content = csv(recorded.load(results, SUITE), name, "", {})
    assert (rendered[0].parent / "records.csv").read_bytes() == content
    table = pd.read_csv(io.BytesIO(content), float_precision="round_trip").set_index("id")
    assert len(table) == len(rendered[1]) and "caution" not in table and set(table["snapshot"]) == {name}
    for known in rendered[1]:
        row = table.loc[known.id]
        assert row["rate.file_bytes"] == known.rate.file_bytes
        assert row["rate.ratio"] == known.rate.ratio
        assert row["metrics.top-1.low"] == known.quality.low
        assert row["speed.decode_s"] == known.speed.decode_s
        assert row["rate.by_role.indices"] == 0
        assert json.loads(str(row["point"])) == known.point
        assert row["provenance.started"] == known.provenance.started
        assert row["snapshot"] == json.loads((rendered[0].parent / "snapshot.json").read_bytes())["snapshot"]


def test_figures_carry_the_snapshot(rendered: tuple[Path, list[Record]]) -> None:
    """Wrong code that this finds: files that only the page beside them identifies."""
    (found,) = {json.loads((rendered[0].parent / "snapshot.json").read_bytes())["snapshot"]}
    for file in (*rendered[0].parent.glob("*.svg"), *rendered[0].parent.glob("*.pdf")):
        assert f"suite {SUITE}, snapshot {found}".encode() in file.read_bytes(), file.name


def costing(method: str, *macs: int, **changes: Any) -> list[Record]:
    """Points of one method by their multiply-accumulates; the reference needs 1,234,567."""
    counts = [Counted(elements=9_000, nonzero=9_000, macs=count) for count in macs]
    return [made(method, index=i, counted=counted, **changes) for i, counted in enumerate(counts)]


def test_methods_that_compute_less_have_a_figure_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a method estimates to be redundant stands in the note that its card names; all its configurations are drawn."""
    slim = costing("alpha", 800_000, 500_000, notes={"redundancy_macs": 0.4})
    page = render(SUITE, store(tmp_path / "results", [*slim, made("beta"), reference()]), tmp_path / "reports")
    assert (page.parent / "macs-quality-net-post-training.pdf").exists()
    text = page.read_text(encoding="utf-8")
    assert "Quality and multiply-accumulates" in text
    assert "<code>rate-quality-*</code> and <code>macs-quality-*</code>, each as" in text

    card = dataclasses.replace(CARD, estimate="redundancy_macs")
    monkeypatch.setattr(described, "card", lambda key: card if key == "alpha" else None)
    finer = costing("alpha", 900_000, config={"sparsity": 0.9}, notes={"redundancy_macs": 0.4})
    other = costing("beta", 900_000, notes={"redundancy_macs": 0.4})  # its card names no estimate
    rows = aggregate([*slim, *finer, *other, reference()])
    dense, lines = references(rows)["net"], list(series.series(rows))
    first = {line.identity for line in lines if line.method == "alpha" and len(line.rows) == 2}
    found = costs.narrower(dense, lines, first)
    assert sorted((line.method, len(line.rows)) for line in found) == [("alpha", 1), ("alpha", 2), ("beta", 1)]
    (line,) = [line for line in found if len(line.rows) == 2]
    assert [costs.removed(dense, row) for row in line.rows] == pytest.approx(
        [100 * (1 - macs / 1_234_567) for macs in (800_000, 500_000)]
    )
    axes = costs.figure(TOP1, dense, found, found).axes[0]
    (vertical,) = [drawn for drawn in axes.lines if "estimate" in str(drawn.get_label())]
    assert list(vertical.get_xdata()) == [40, 40]


def test_multiply_accumulates_are_compared_by_the_points_that_validation_chooses() -> None:
    """A large file of few multiply-accumulates counts here. Wrong code that this finds: one configuration, or bytes."""

    def point(index: int, bits: int, macs: int, size: int, score: int) -> Record:
        counts, config = Counted(elements=9_000, nonzero=9_000, macs=macs), {"bits": bits}
        return made(index=index, config=config, file_bytes=size, counted=counts, validation=counted(score))

    first = [point(0, 5, 800_000, 3000, 880), point(1, 5, 500_000, 2000, 800)]
    other = [point(0, 32, 800_000, 30_000, 900), point(1, 32, 500_000, 20_000, 790)]
    rows = aggregate([*first, *other, reference()])
    lines = list(series.series(rows))
    identities = {line.identity for line in lines if line.rows[0].first.config == {"bits": 5}}
    (found,) = costs.narrower(references(rows)["net"], lines, identities)
    assert [(row.macs, row.first.rate.file_bytes) for row in found.rows] == [(800_000, 30_000), (500_000, 2000)]
    assert found.config == "best of 2 configurations"


def test_at_equal_macs_and_at_equal_bytes_other_networks_are_in_front() -> None:
    """Wrong code that this finds: one front for both panels, or a panel whose axis is the other's."""

    def point(method: str, index: int, macs: int, size: int, correct: int) -> Record:
        counts = Counted(elements=9_000, nonzero=9_000, macs=macs)
        return made(method, index=index, file_bytes=size, counted=counts, correct=correct)

    narrow = [point("alpha", 0, 600_000, 9000, 930), point("alpha", 1, 400_000, 8000, 910)]
    small = [point("beta", 0, 900_000, 5000, 930), point("beta", 1, 800_000, 3000, 900)]
    rows = aggregate([*narrow, *small, reference()])
    dense = references(rows)["net"]
    lines = [line for line in series.series(rows) if line.method in ("alpha", "beta")]
    panels = costs.figure(TOP1, dense, lines, lines).axes[:2]
    (left, right) = [
        next(drawn for drawn in axes.lines if drawn.get_label() == "in front").get_xdata() for axes in panels
    ]
    assert list(left) == pytest.approx([100 * (1 - macs / 1_234_567) for macs in (400_000, 600_000)])
    assert list(right) == [3000, 5000]


def test_structured_pruning_starts_at_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A point that needs more than the reference squeezes nothing; the qualities reach up to the reference's."""
    families = {"alpha": (costs.STRUCTURED,), "beta": ("low-rank factorisation",)}
    cards = {key: dataclasses.replace(CARD, families=own) for key, own in families.items()}
    monkeypatch.setattr(described, "card", cards.get)
    records = [*costing("alpha", 800_000, 500_000), *costing("beta", 2_000_000, 700_000), reference()]
    rows = aggregate(records)
    dense = references(rows)["net"]
    lines = list(series.series(rows))
    axes = costs.figure(TOP1, dense, costs.narrower(dense, lines, {line.identity for line in lines}), lines).axes[0]
    starts = [drawn for drawn in axes.lines if list(drawn.get_xdata())[:1] == [0] and len(drawn.get_xdata()) == 2]
    (start,) = [drawn for drawn in starts if drawn.get_label() != "reference"]
    assert list(start.get_xdata()) == pytest.approx([0, 100 * (1 - 800_000 / 1_234_567)])
    assert list(start.get_ydata()) == [95, 90]
    assert axes.get_xlim()[0] == 0 and axes.get_ylim()[1] > 95


def test_hostile_names_are_text(tmp_path: Path) -> None:
    name = re.sub(r"[/\\]", "", HOSTILE)  # what a folder can be called
    records = [*several(), made(name, point={HOSTILE: HOSTILE}, config={HOSTILE: HOSTILE}, budget=name)]
    records.append(made("_under", network=f"-../{name}".replace("/", "")))
    path = render(SUITE, store(tmp_path / "results", records), tmp_path / "reports")
    page = Page(path)
    assert not page.handlers and not [address for address in page.resources if not address.startswith(("data:", "#"))]
    assert len(page.scripts) == 5
    assert name in {r["method"] for r in page.records} and name in {line["method"] for line in page.data["lines"]}
    assert {p.parent for p in tmp_path.rglob("*.svg")} == {path.parent}


def test_data_has_no_number_that_json_does_not_know() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        payload.packed(plain_json(float("nan")))


def test_no_records_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(RateBenchError, match=r"there are no records of 'invented' in .*: `ratebench run invented`"):
        render(SUITE, tmp_path / "results", tmp_path / "reports")
    assert not (tmp_path / "reports").exists()


def test_records_of_an_older_schema_are_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = store(tmp_path / "results", several())
    now = recorded.SCHEMA
    monkeypatch.setattr(files, "SCHEMA", now + 1)
    monkeypatch.setitem(migration.STEPS, now, lambda plain: {**plain, "schema": now + 1})
    page = Page(render(SUITE, results, tmp_path / "reports"))
    assert {r["schema"] for r in page.records} == {now + 1} and len(page.records) == len(several())
    monkeypatch.delitem(migration.STEPS, now)
    with pytest.raises(RecordError, match=f"this release does not know schema {now}"):
        render(SUITE, results, tmp_path / "reports")


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    results = store(tmp_path / "results", several())
    victim = recorded.paths(results, SUITE)[2]
    victim.write_bytes(victim.read_bytes()[:200])
    with pytest.raises(RecordError, match=re.escape(str(victim))):
        render(SUITE, results, tmp_path / "reports")
    assert not (tmp_path / "reports").exists()


def test_the_index_leads_to_every_suite(tmp_path: Path) -> None:
    render(SUITE, store(tmp_path / "results", several()), tmp_path / "reports")
    store(tmp_path / "results", [made(suite="second", seed=seed) for seed in (0, 1)])
    render("second", tmp_path / "results", tmp_path / "reports")
    index = Page(tmp_path / "reports" / "index.html")
    assert index.links == [f"{SUITE}/index.html", "second/index.html"] and not index.scripts
    assert all((tmp_path / "reports" / place).exists() for place in [*index.links, *index.resources[1:]])
    (tmp_path / "reports" / "second" / "snapshot.json").write_text("{}")
    with pytest.raises(RateBenchError, match=r"second/snapshot\.json is not a summary of a report"):
        render(SUITE, tmp_path / "results", tmp_path / "reports")


def test_snapshots_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = several()
    before, after = store(tmp_path / "before", [records[0], *records[2:]]), tmp_path / "after"
    changed = msgspec.structs.replace(records[2], rate=made(seed=1, index=0, file_bytes=777).rate)
    store(after, [*records[:2], changed, *records[4:]])
    found = compare.compare(SUITE, str(before), str(after))
    assert [r.id for r in found.new] == [records[1].id] and [r.id for r in found.gone] == [records[3].id]
    assert [(a.id, b.rate.file_bytes) for a, b in found.changed] == [(changed.id, 777)]
    assert found.same == len(records) - 3
    assert [found.before, found.after] == [snapshot(place, SUITE) for place in (before, after)]
    same = compare.compare(SUITE, str(after), str(after))
    assert not (same.new or same.gone or same.changed) and same.before == same.after
    other = shutil.copytree(after, tmp_path / "other")
    for place, values in ((after, 900 * [True] + 100 * [False]), (other, 100 * [False] + 900 * [True])):
        (place / f"{records[0].id}.items").write_bytes(np.packbits(values).tobytes())
    found = compare.compare(SUITE, str(after), str(other))  # as many items are right, but others
    assert [a.id for a, _ in found.changed] == [records[0].id] and found.before != found.after

    monkeypatch.chdir(tmp_path)
    for command in (
        ["init", "-q"],
        ["add", "results"],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "c"],
    ):
        if command[0] == "add":
            shutil.copytree(before, tmp_path / "results")
        subprocess.run(["git", *command], check=True)
    assert len(compare.compare(SUITE, "HEAD", str(after)).new) == 1
    with pytest.raises(RateBenchError, match="v9 is neither a folder nor a git revision with results/invented"):
        compare.compare(SUITE, "v9", str(after))
    with pytest.raises(RateBenchError, match="there are no records of 'nothing' in"):
        compare.compare("nothing", str(after), str(after))


def test_papers_points_stand_beside_ours() -> None:
    """Where a paper gives an accuracy and a ratio; the row that answers is named."""
    row = aggregate([made()])[0]
    size = reported.Size(value=12.5, unit="ratio", counts="weights only")
    wanted = reported.Reported(task="digits", network="net", metric="error", value=8.0, source="Table 1", size=size)
    verdict = Verdict("replicated")
    found = payload._reported(answers.Comparison("alpha", wanted, row, None, verdict), TOP1)
    assert found is not None and (found["quality"], found["ratio"], found["row"]) == (92.0, 12.5, row.key)
    unsized = msgspec.structs.replace(wanted, size=None)
    assert payload._reported(answers.Comparison("alpha", unsized, row, None, verdict), TOP1) is None
