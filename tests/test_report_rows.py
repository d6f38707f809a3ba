"""Records become rows, lines and gaps: aggregation, looks, and cells without a result."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from invented import SUITE, Page, made, reference, several, store

import methods
from benchmarks import records as recorded
from benchmarks.configuration import config_hash
from benchmarks.evaluation.metrics import wilson
from benchmarks.records import CellState, described
from benchmarks.records.quality import Spread
from benchmarks.records.rows import aggregate, references
from benchmarks.report import cells, columns, costs, page, payload, render, series
from benchmarks.report.columns import significant
from benchmarks.report.jinja import with_code
from benchmarks.running import freshness, params
from benchmarks.running.cell import Cell
from methods.interface import Budget


def test_aggregation_on_a_hand_worked_case() -> None:
    """Three seeds: bytes 1000, 2000, 6000; correct 900, 910, 950 of 1000."""
    known = [(0, 1000, 900), (1, 2000, 910), (2, 6000, 950)]
    (row,) = aggregate([made(seed=s, file_bytes=b, correct=c) for s, b, c in reversed(known)])
    assert [r.seed for r in row.records] == [0, 1, 2]
    assert row.file_bytes == Spread(3000, 1000, 6000)
    assert row.ratio == pytest.approx(40_000 / 3000)
    assert row.quality.mean == pytest.approx(0.92)
    # p(1-p)/N = 0.92 × 0.08 / 1000 = 7.36e-5; variance of (0.90, 0.91, 0.95) = 7e-4, over 3 seeds 2.3333e-4
    assert row.quality.value == pytest.approx(92) and row.quality.over_seeds == Spread(row.quality.value, 90, 95)
    assert row.quality.standard_error == pytest.approx(100 * math.sqrt(7.36e-5 + 7e-4 / 3))
    assert row.quality.interval == pytest.approx((92 - 196 * 0.017520, 92 + 196 * 0.017520), abs=1e-3)
    assert row.by_role == {"weights": 2700, "norm_bias": 200, "header": 100}


@pytest.mark.parametrize(
    ("counts", "interval"),
    [
        ([900], wilson(900, 1000)),
        ([980, 980, 980], (wilson(980, 1000)[0], 0.98 + 1.96 * 0.004427)),  # the wider one on either side
        ([1000, 600, 980], (0.86 - 1.96 * 0.130589, 1.0)),  # 0.86 × 0.14 / 1000, and a variance of 0.0508 / 3
        ([20, 300], (0.0, 0.16 + 1.96 * 0.140479)),  # 0.16 × 0.84 / 1000, and a variance of 0.0392 / 2
    ],
)
def test_seeds_that_differ_widen_the_interval(counts: list[int], interval: tuple[float, float]) -> None:
    (row,) = aggregate([made(seed=seed, correct=correct) for seed, correct in enumerate(counts)])
    assert row.quality.interval == pytest.approx([100 * bound for bound in interval], abs=1e-3)


def test_only_seeds_are_averaged() -> None:
    slow = msgspec.structs.replace(made(seed=1).speed, device="another processor")
    rows = aggregate(
        [
            made(),
            made(seed=1, speed=slow),
            made(seed=2, point={"sparsity": 0.51}),
            made(budget="short", epochs=5),
            made(config={"mode": "other", "steps": 3}),
            made("beta"),
        ]
    )
    assert sorted(len(row.records) for row in rows) == [1, 1, 1, 1, 2]
    assert len({row.key for row in rows}) == 5


def test_a_key_names_a_point_and_a_number_tells_rows_of_one_point_apart() -> None:
    """Links to rows contain their keys."""
    known = [made(), made(seed=1, point={"sparsity": 0.6}), made(seed=2, point={"sparsity": 0.7}), made(index=1)]
    point = f"net/alpha/{known[0].config_hash}-post-training/p00"
    keys = [row.key for row in aggregate(known)]
    assert keys == [point, f"{point}-2", f"{point}-3", f"{point.removesuffix('p00')}p01"]


def test_reference_is_the_baseline_that_compresses_nothing() -> None:
    rows = aggregate([*several(), made("half", fidelity="baseline", file_bytes=20_000)])
    assert {network: row.first.method for network, row in references(rows).items()} == {
        "net": "plain",
        "other": "plain",
    }
    assert references(aggregate([made()])) == {}


def test_families_have_colours_and_methods_symbols() -> None:
    """A method looks the same on every network and in every suite; up to eight methods of a family differ."""
    known = ["svd", "tucker", "l1_filter", "sfp", "rdoq", "uniform", "pq", "rvq"]
    many = [made(name, network=network) for name in known for network in ("net", "other")]
    lines = list(series.series(aggregate([*many, reference()])))
    assert len({(line.method, line.colour, line.symbol) for line in lines}) == 9
    assert len({(line.colour, line.symbol) for line in lines}) == 9
    colours = {line.method: line.colour for line in lines}
    assert colours["svd"] == colours["tucker"] == series.FAMILIES["low-rank factorisation"] != colours["pq"]
    assert next(line.name for line in lines if line.method == "svd").startswith("svd · ")


def _linear(colour: str) -> np.ndarray:
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def test_colours_are_told_apart_with_deuteranopia() -> None:
    """WCAG's contrast on both pages, and distances in OKLab, also as seen with deuteranopia (Machado et al., 2009)."""
    deuteranopia = np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    )
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    oklab = np.array(
        [
            [0.2104542553, 0.793617785, -0.0040720468],
            [1.9779984951, -2.428592205, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.808675766],
        ]
    )
    colours = sorted({*series.FAMILIES.values(), series.OTHER})
    for colour in colours:
        own = _linear(colour) @ [0.2126, 0.7152, 0.0722]
        for paper in ("#ffffff", "#14171a"):
            light, dark = sorted((own, _linear(paper) @ [0.2126, 0.7152, 0.0722]), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, (colour, paper)
    for one, other in itertools.combinations(colours, 2):
        for seen in (np.eye(3), deuteranopia):
            a, b = (oklab @ np.cbrt(cones @ np.clip(seen @ _linear(c), 0, 1)) for c in (one, other))
            assert np.linalg.norm(a - b) >= 0.05, (one, other)


def test_cells_are_counted_one_by_one() -> None:
    """Cells that differ only in their seed share a line, but not a count; what is said of a whole method counts once."""
    one = cells.Gap("net", "alpha", "default", "short", "not run", "no record yet", (0, 1, 2))
    found = page._cells(
        [one, dataclasses.replace(one, network="other", seeds=(0,)), dataclasses.replace(one, seeds=())]
    )
    assert found == {"not run": 5}


def test_a_network_from_random_weights_does_not_start_at_the_reference() -> None:
    """Its curve was never measured there: it is not drawn from the uncompressed network like that of pruning."""
    assert costs.STRUCTURED not in methods.get("uniform_width").CARD.families
    assert costs.STRUCTURED in methods.get("l1_filter").CARD.families


def test_code_changed_since() -> None:
    cell = Cell("digits", "digits", "digits_cnn", "reference", {}, Budget("post-training", 0), 0)
    known = made("reference", suite="digits", network="digits_cnn", config={}, epochs=0)
    same = msgspec.structs.replace(known.provenance, fingerprint=cell.fingerprint())
    records = [
        msgspec.structs.replace(known, provenance=same),
        msgspec.structs.replace(known, id="a/b/c/d/p00"),
        made(),
    ]
    assert list(freshness.current(records).values()) == [True, False, None]


@pytest.mark.parametrize(("value", "current", "words"), [(8, True, "qps=[-6]"), (9, False, "gone=9, qps=[-6]")])
def test_a_setting_that_is_gone_counts_if_it_was_not_at_its_default(value: int, current: bool, words: str) -> None:
    """`nnc` had a setting `gone` once, by default 8. Only a value other than the default is in the configuration's hash."""
    cell = Cell("digits", "digits", "digits_cnn", "nnc", {"qps": [-6]}, Budget("post-training", 0), 0)
    name = config_hash({"qps": [-6], **({} if value == 8 else {"gone": value})})
    common: dict[str, Any] = {"suite": "digits", "network": "digits_cnn", "epochs": 0, "config_hash": name}
    known = made("nnc", config={"qps": [-6], "gone": value}, **common)
    provenance = msgspec.structs.replace(known.provenance, fingerprint=cell.fingerprint())
    known = msgspec.structs.replace(known, provenance=provenance)
    assert list(freshness.current([known]).values()) == [current]
    assert described.config_text(known) == words


def test_cells_without_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text(
        f"{SUITE}: {{task: digits, networks: [digits_cnn], methods: [gone, reference], seeds: [0]}}\n"
        "budgets: {post-training: {epochs: 0}}\nconfigs: {}\n"
    )
    monkeypatch.setattr(params, "PARAMS", tmp_path / "params.yaml")
    monkeypatch.setattr(
        methods, "_locations", lambda: {"gone": "nowhere.gone", "reference": "methods.baselines.reference"}
    )
    params._params.cache_clear()
    failed = CellState(recorded.SCHEMA, "0" * 16, "failed", 0, 1.0, "out of <b>memory</b>")
    results = store(tmp_path / "results", [made(), made("beta")])
    for seed in (0, 1):
        recorded.write(results / SUITE / f"net/alpha/abcdef01-short-s{seed}/cell.json", failed)
    next((results / SUITE / "net" / "beta").glob("*/cell.json")).unlink()
    try:
        gaps = cells.gaps(results, SUITE, [made()])
    finally:
        params._params.cache_clear()
    found = {gap.status: gap for gap in gaps}
    assert [gap.status for gap in gaps] == ["failed", "unfinished", "not run", "not run"]
    assert (found["failed"].seeds, found["failed"].reason) == ((0, 1), "out of <b>memory</b>")
    assert found["unfinished"].method == "beta"
    named = f"--network digits_cnn --config {config_hash({})} --budget post-training"
    assert {(gap.method, gap.reason) for gap in gaps[2:]} == {
        ("gone", "the method's code can't be loaded"),
        ("reference", f"no record yet: `ratebench run {SUITE} --method reference {named}`"),
    }


def test_a_configuration_is_what_it_changes_whatever_its_hash_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of before configurations were named by their changes: they are the first one, and their cells were run."""
    wanted = [{"steps": [0.1, 0.2], "bits": 5}, {"steps": [0.1, 0.2], "bits": 6}]
    monkeypatch.setattr(params, "configs", lambda suite, method, budget: wanted)
    common: dict[str, Any] = {"suite": "digits", "network": "digits_cnn"}
    records = [
        made("beta", config=config, config_hash=name, **common) for name, config in zip("xy", wanted[::-1], strict=True)
    ]
    assert cells.first_configs("digits", records) == {("beta", "post-training", "y")}
    monkeypatch.setattr(params, "configs", lambda suite, method, budget: [{"steps": [], "bits": 5}])
    assert cells.first_configs("digits", records) == {("beta", "post-training", "x")}  # the nearest to the default

    # On another network, the first configuration was recorded when a default was another one.
    monkeypatch.setattr(params, "configs", lambda suite, method, budget: wanted)
    earlier = made(
        "beta", config={"steps": [0.1, 0.2], "bits": 5, "gone": 1}, config_hash="y", suite="digits", network="other"
    )
    for known in ([*records, earlier], [earlier, *records]):
        assert cells.first_configs("digits", known) == {("beta", "post-training", "y")}

    budget = Budget("post-training", 0)
    planned = [Cell("digits", "digits", "digits_cnn", "reference", {}, budget, seed) for seed in (0, 1)]
    monkeypatch.setattr(cells, "_planned", lambda suite: planned)
    known = made("reference", config={}, config_hash="of another age", **common)
    assert [gap.seeds for gap in cells.gaps(tmp_path, "digits", [known])] == [(1,)]


def test_unsupported_cells_show_their_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell(SUITE, "digits", "digits_cnn", "reference", {}, Budget("post-training", 0), 0)
    monkeypatch.setattr(cells, "_planned", lambda suite: [cell])
    monkeypatch.setattr(Cell, "unsupported", lambda self: "needs residual blocks")
    (gap,) = cells.gaps(tmp_path, SUITE, [])
    assert (gap.status, gap.reason) == ("not applicable", "needs residual blocks")


def test_commands_in_reasons_are_code_and_nothing_else_is_markup() -> None:
    assert with_code("run `a <b> *c*`, or <i>not</i> *at* all") == (
        "run <code>a &lt;b&gt; *c*</code>, or &lt;i&gt;not&lt;/i&gt; *at* all"
    )
    assert with_code("one ` alone\nand a line [x](y)") == "one ` alone\nand a line [x](y)"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.012345, "0.0123"), (1.234, "1.23"), (45.678, "45.7"), (1234.5, "1,234")]
)
def test_significant(value: float, text: str) -> None:
    assert significant(value) == text


def test_training_that_did_not_pay_is_marked(tmp_path: Path) -> None:
    """A trained file that is as large as an untrained one of the same method, and worse; another method does not count."""
    short: dict[str, Any] = {"budget": "short", "epochs": 1}
    untrained = [
        made("alpha", index=0, file_bytes=5000, correct=900),
        made("beta", index=0, file_bytes=900, correct=940),
    ]
    trained = [
        made("alpha", index=i, file_bytes=size, correct=correct, **short)
        for i, (size, correct) in enumerate([(6000, 899), (5000, 899), (4999, 100), (5000, 900)])
    ]
    page = Page(render(SUITE, store(tmp_path / "results", [*untrained, *trained, reference()]), tmp_path / "reports"))
    found = [row["outdone"] for row in page.data["rows"] if page.data["lines"][row["line"]]["budget"] == "short"]
    assert [bool(words) for words in found] == [True, True, False, False]
    assert untrained[0].id in found[0] and "▽" in page.text
    assert not any(row["outdone"] for row in page.data["rows"] if page.data["lines"][row["line"]]["budget"] != "short")


@pytest.mark.parametrize(
    ("config", "epochs", "word"),
    [
        ({"recalibrate": 500}, 0, "adapted"),
        ({"recalibrate": 0}, 0, "left"),
        ({"batchnorm": "control", "recalibrate": 0}, 0, "adapted"),
        ({"batchnorm": "reestimate"}, 0, "measured again"),
        ({"batchnorm": "none"}, 0, "left"),
        ({"batchnorm": "else"}, 0, "–"),
        ({}, 0, "–"),
        ({"recalibrate": 500}, 2.5, "trained"),
        ({}, None, "trained"),
        ({"recalibrate": 500, "storage": "rdoq"}, 1, "trained, adapted"),
        ({"recalibrate": 500, "storage": "rdoq"}, 0, "adapted"),
    ],
)
def test_how_batchnorm_was_set(config: dict[str, Any], epochs: Any, word: str) -> None:
    assert described.batchnorm(made(config=config, epochs=epochs)) == word


def test_a_column_that_is_derived_says_nothing_of_other_code() -> None:
    known = columns.columns([], True, {})
    row = aggregate([made(config={"recalibrate": 500})])[0]
    place = [column.key for column in known].index("batchnorm")
    for stale, word, value in ((False, "adapted", "adapted"), (True, "–", None)):
        found = payload._row(row, known, [], stale)
        assert (found["texts"][place], found["values"][place]) == (word, value)
        assert found["texts"][:place] == [column.text(row) for column in known[:place]]
