"""Two throw-away tasks, a file each, that know no classes: a regression, and pictures that a network draws.

From the run to the report everything is in the task's own metric, and a method of another kind is refused.
"""

from __future__ import annotations

import html
import math
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
import torch
from invented import Page
from scipy import stats
from test_runner import InProcess, Laboratory

import benchmarks.networks
import benchmarks.tasks
import methods
from benchmarks import bitstream, records, registry, tasks
from benchmarks.evaluation import metrics, verify
from benchmarks.evaluation.metrics import Sums
from benchmarks.records import Record, Score, described, items
from benchmarks.running import params, plan

FOLDER = Path(__file__).parent / "other_tasks"
SUITES = {
    "progression": {"task": "progression", "networks": ["mlp"], "methods": ["shrunk", "svd"], "seeds": [0]},
    "drawings": {"task": "drawings", "networks": ["disc", "waves"], "methods": ["drawn", "svd"], "seeds": [0]},
}
CONFIGS = {"post-training": {"shrunk": [{}, {"by": 20.0}], "drawn": [{}, {"gain": 0.5}]}}
WORDS = re.compile(r"top-\d|accura|classif|correct|Wilson", re.IGNORECASE)


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """A checkout that knows both tasks, with records of both."""
    with pytest.MonkeyPatch.context() as patch:
        made = Laboratory(tmp_path_factory.mktemp("other"), patch)
        packages = made.folder / "packages"
        shutil.copytree(FOLDER / "methods", packages, dirs_exist_ok=True)
        entries = packages / "tiny-1.0.dist-info" / "entry_points.txt"
        entries.write_text("[ratebench.methods]\ntiny = tiny\nshrunk = shrunk\ndrawn = drawn\n")
        for package in (benchmarks.tasks, benchmarks.networks):
            folder = FOLDER / package.__name__.rpartition(".")[2]
            patch.setattr(package, "__path__", [*package.__path__, str(folder)])
        registry.names.cache_clear()
        made.forget()
        made.configure(configs=CONFIGS, **SUITES)
        for suite in SUITES:
            assert made.ratebench("run", suite, "--all-configs") == 0
        yield made
    for name in ("shrunk", "drawn", "benchmarks.tasks.progression", "benchmarks.tasks.drawings"):
        sys.modules.pop(name, None)
    registry.names.cache_clear()
    methods._locations.cache_clear()
    params._params.cache_clear()


def found(laboratory: Laboratory, suite: str) -> list[Record]:
    return list(records.load(laboratory.results, suite))


def by_hand(laboratory: Laboratory, known: Record) -> np.ndarray:
    """The score of every test item of a record's file, in fp64."""
    network = bitstream.decode((laboratory.results / f"{known.id}.rbn").read_bytes()).eval()
    module = sys.modules[f"benchmarks.tasks.{known.task}"]
    with torch.inference_mode():
        if known.task == "progression":
            split = module.splits()[2]
            return ((network(split.inputs) - split.targets).double() ** 2).numpy()[:, 0]
        split = module.picture(known.network)
        decoded = (255 * network(split.inputs).clamp(0, 1)).round()
        mse = ((decoded - split.targets).double() ** 2).mean()
        return np.array([10 * math.log10(255**2 / float(mse))])


def test_records_hold_the_tasks_own_metric(laboratory: Laboratory) -> None:
    """Of each item and of all, against numbers by hand; the interval is Student's, and of one picture its value."""
    for suite, count, metric in (("progression", 4, "mse"), ("drawings", 12, "psnr")):
        recorded = found(laboratory, suite)
        assert len(recorded) == count
        for known in recorded:
            values = by_hand(laboratory, known)
            assert list(known.metrics) == [metric] and known.quality.items == len(values) == tasks.get(suite).ITEMS[1]
            assert known.quality.value == pytest.approx(values.mean(), rel=1e-5)
            assert known.quality.total == pytest.approx(values.sum(), rel=1e-5)
            assert known.quality.squares == pytest.approx((values**2).sum(), rel=1e-5)
            low, high = (values[0],) * 2 if len(values) == 1 else student(values)
            assert (known.quality.low, known.quality.high) == (pytest.approx(low, 1e-5), pytest.approx(high, 1e-5))
            path = laboratory.results / f"{known.id}.json"
            assert items.path_beside(path).stat().st_size == 4 * len(values)
            kept = items.read(path, described.metric(suite, metric), known.quality)
            assert kept is not None and kept.numpy() == pytest.approx(values, rel=1e-5)


def student(values: np.ndarray) -> tuple[float, float]:
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return float(low), float(high)


def test_ratios_are_of_the_reference_or_of_the_data(laboratory: Laboratory) -> None:
    for known in found(laboratory, "progression"):
        assert known.rate.uncompressed_bytes == 4 * (12 * 12 + 1)
        assert known.rate.bits_per_weight == pytest.approx(8 * known.rate.file_bytes / 145)
        assert known.counted.elements == 145 and known.counted.macs == 10 * 12 + 12
    for known in found(laboratory, "drawings"):
        assert known.rate.uncompressed_bytes == 3 * 24 * 24 and known.rate.bits_per_weight is None
        assert known.rate.ratio == pytest.approx(3 * 24 * 24 / known.rate.file_bytes)
        assert known.counted.macs == 24 * 24 * known.point["features"] * (2 + 3)


def test_less_is_better_and_more_is_better(laboratory: Laboratory) -> None:
    """The tasks make sense: the reference has learned something, and more sines draw better."""
    reference, shrunk, _, grown = sorted(found(laboratory, "progression"), key=lambda r: (r.config["by"], r.index))
    assert 0.3 < reference.quality.value < 0.8 and grown.quality.value > 10 * shrunk.quality.value
    curves = [r for r in found(laboratory, "drawings") if r.config["gain"] == 1]
    for curve in (curves[:3], curves[3:]):
        assert [r.point["features"] for r in curve] == [64, 16, 4]
        first, second, third = (r.quality.value for r in curve)
        assert first > second + 2 > third + 4 > 12
        assert curve[0].rate.file_bytes > curve[1].rate.file_bytes > curve[2].rate.file_bytes


def test_show_has_the_metrics_of_the_task(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    laboratory.patch.setenv("COLUMNS", "200")
    for suite, head, unit, decimals in (("progression", "mse", "σ²", 3), ("drawings", "psnr", "dB", 2)):
        assert laboratory.ratebench("show", suite) == 0
        text = capsys.readouterr().out
        assert f" {head} " in text and "95 % interval" in text
        assert not WORDS.search(text) and "%" not in text.replace("95 %", "")
        for known in found(laboratory, suite):
            score = known.quality
            value, low, high = (f"{number:.{decimals}f}" for number in (score.value, score.low, score.high))
            bits = [] if suite == "drawings" else [f"{known.rate.bits_per_weight:.3f}"]  # no network, no weights
            row = next(line for line in text.splitlines() if line.startswith(f"{known.id.partition('/')[2]} "))
            assert re.split(r" {2,}", row)[4:] == [*bits, f"{value} {unit}", f"{low} … {high}"]


def test_plan_has_nothing_to_run_again(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    for suite, method, count in (("progression", "shrunk", 2), ("drawings", "drawn", 4)):
        assert laboratory.ratebench("plan", suite, "-m", method, "--all-configs") == 0
        text = capsys.readouterr().out
        assert text.count("complete, ") == count and "to run" not in text and not WORDS.search(text)
        assert laboratory.ratebench("run", suite, "--all-configs") == 0
        assert " 0 to run" in capsys.readouterr().out


def test_what_a_cell_will_cost_is_told(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    """Also without a reference network whose speed could be measured; the file's size is that of the records."""
    laboratory.configure(configs={"post-training": {"shrunk": [{"by": 0.5}], "drawn": [{"gain": 0.7}]}}, **SUITES)
    try:
        for suite, cells, counted in (("progression", 1, "1 cell"), ("drawings", 2, "2 cells")):
            assert laboratory.ratebench("plan", suite) == 0
            text = capsys.readouterr().out
            assert text.count("to run") == cells and f"{counted}: about 0.0 h on " in text and "?" not in text
    finally:
        laboratory.configure(configs=CONFIGS, **SUITES)


def test_a_method_of_another_kind_is_refused_before_anything_else(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the method and nothing of the task is asked, not even whether the budget suits."""
    svd = methods.get("svd")
    for name in ("unsupported", "compress"):
        monkeypatch.setattr(svd, name, lambda *_: pytest.fail("the method was asked"))
    monkeypatch.setenv("COLUMNS", "300")
    for suite, kind in (("progression", "regression"), ("drawings", "image coding")):
        sentence = f"works on image classification, not on {kind}"
        for budget in ("post-training", "short"):
            for cell in plan.cells(suite, ["svd"], budget_name=budget):
                assert cell.unsupported() == sentence
            assert laboratory.ratebench("plan", suite, "-m", "svd", "-b", budget) == 0
            assert f"not run: {sentence}" in capsys.readouterr().out
            assert laboratory.ratebench("run", suite, "-m", "svd", "-b", budget) == 0
            assert ": 0 to run, " in capsys.readouterr().out
        assert not list((laboratory.results / suite).rglob("svd/*"))
    other = replace(plan.cells("progression", ["shrunk"])[0], task="digits", network="digits_cnn")
    assert other.unsupported() == "works on regression, not on image classification"
    both = replace(methods.get("shrunk").CARD, kinds=("regression", "image coding"))
    monkeypatch.setattr(methods.get("shrunk"), "CARD", both)
    assert other.unsupported() == "works on regression and image coding, not on image classification"


def test_verify_scores_files_again(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "Scorer", InProcess)
    assert laboratory.ratebench("verify", "drawings") == 0
    assert capsys.readouterr().out == "12 same, 0 differs, 0 no artefact\n"
    path = records.paths(laboratory.results, "progression")[0]
    text, known = path.read_text(), records.read(path)
    items.path_beside(path).unlink()
    total = known.quality.total
    assert isinstance(total, float)
    for factor, status in ((1 + 1e-8, 0), (1 - 1e-8, 0), (1 + 1e-5, 1)):  # another order of the sum, another device
        other = Sums(132, total * factor, known.quality.squares)
        low, high = metrics.interval(described.metric("progression", "mse"), other)
        score = Score(items=132, total=other.total, squares=other.squares, value=other.value, low=low, high=high)
        records.write(path, msgspec.structs.replace(known, metrics={**known.metrics, "mse": score}))
        assert laboratory.ratebench("verify", "progression") == status
    assert f"mse: {total:.10g} over 132 items, recorded mse: {total * (1 + 1e-5):.10g} over" in " ".join(
        capsys.readouterr().err.split()
    )
    path.write_text(text)


def test_training_is_with_the_tasks_own_loss(laboratory: Laboratory) -> None:
    """The shared loop on inputs that are no images, from the trained reference on."""
    assert laboratory.ratebench("run", "progression", "-m", "shrunk", "-b", "short", "--results", "trained") == 0
    trained = list(records.load(Path("trained"), "progression"))
    assert [r.index for r in trained] == [0, 1] and {r.epochs for r in trained} == {2.5}
    start = found(laboratory, "progression")[-2]
    assert start.point == trained[0].point and 0.0002 < abs(trained[0].quality.value - start.quality.value) < 0.2
    log = laboratory.folder / "trained" / trained[0].id.rpartition("/")[0] / "log.txt"
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", log.read_text())]
    split = tasks.load("progression", "mlp").train
    network = tasks.load("progression", "mlp").reference()
    with torch.inference_mode():
        before = float((network(split.inputs) - split.targets).square().mean())
    assert len(losses) == 3 and losses[0] == pytest.approx(before, rel=0.2)


@pytest.fixture(scope="module")
def reports(laboratory: Laboratory) -> dict[str, Path]:
    for suite in SUITES:
        assert laboratory.ratebench("report", suite) == 0
    return {suite: laboratory.folder / "reports" / suite for suite in SUITES}


def said(page: Path) -> str:
    """What a page says to a reader, on one line."""
    text = re.sub(r"<(script|style)[^>]*>.*?</\1>|<[^>]+>", " ", page.read_text("utf-8"), flags=re.DOTALL)
    return " ".join(html.unescape(text).split())


def test_a_report_has_no_word_of_classification(reports: dict[str, Path]) -> None:
    """Neither its page nor its exports and figures; but why a method of that kind has no result."""
    for suite, folder in reports.items():
        files = [folder.parent / "index.html", *(p for p in folder.iterdir() if p.suffix in (".html", ".csv", ".svg"))]
        assert len(files) >= 4
        for file in files:
            text = file.read_text("utf-8").replace("works on image classification, not on", "")
            assert not WORDS.search(text), (file, WORDS.search(text))
        text = re.sub(r"95 %|non-zero %", "", said(folder / "index.html"))
        assert "%" not in text, text[text.index("%") - 80 :][:100]
        assert ("mse σ²" if suite == "progression" else "psnr dB") in text


def test_a_report_has_the_numbers_of_the_records(laboratory: Laboratory, reports: dict[str, Path]) -> None:
    for suite, decimals, better in (("progression", 3, -1), ("drawings", 2, 1)):
        recorded = found(laboratory, suite)
        data = Page(reports[suite] / "index.html").data
        (metric,) = data["metrics"]
        assert (metric["name"], metric["better"]) == (recorded[0].metric, better)
        place = [column["key"] for column in data["columns"]].index("quality")
        shown = {row["key"]: (row["texts"][place], row["intervals"][0]) for row in data["rows"]}
        for known in recorded:
            text, interval = shown[known.id.partition("/")[2].replace("-s0/", "/")]
            assert text == f"{known.quality.value:.{decimals}f}"
            assert interval == pytest.approx([known.quality.low, known.quality.high])
        table = pd.read_csv(reports[suite] / "records.csv", float_precision="round_trip").set_index("id")
        for known in recorded:
            row = table.loc[known.id]
            assert row[f"metrics.{known.metric}.total"] == known.quality.total
            assert row[f"metrics.{known.metric}.squares"] == known.quality.squares
            assert row["rate.uncompressed_bytes"] == known.rate.uncompressed_bytes
        assert table["rate.bits_per_weight"].isna().all() == (suite == "drawings")


def test_reported_numbers_are_compared_in_the_tasks_unit(laboratory: Laboratory, reports: dict[str, Path]) -> None:
    """An error that is larger than reported is worse, a PSNR that is larger is better."""
    exact, half = found(laboratory, "progression")[-2:]
    text = said(reports["progression"] / "index.html")
    assert f" {exact.quality.value - 0.1:.3f} σ² above reported " in text and exact.point == {"dtype": "float32"}
    assert f" −{2.5 - half.quality.value:.3f} ± " in text and "1 worse , 1 better" in text
    disc, waves = (r for r in found(laboratory, "drawings") if r.config["gain"] == 1 and r.point["features"] == 64)
    text = said(reports["drawings"] / "index.html")
    assert f" {99 - disc.quality.value:.2f} dB below reported " in text
    assert f" +{waves.quality.value - 1:.2f} ± 0 better " in text and "1 worse , 1 better" in text


def test_claims_follow_what_is_better(laboratory: Laboratory, reports: dict[str, Path]) -> None:
    text = said(reports["progression"] / "index.html")
    assert "smaller outputs are nearer (Section 1; post-training) 1 supported , 1 inconclusive" in text
    assert "larger outputs are nearer (Section 2; post-training) 1 not supported here , 1 inconclusive" in text
    grown, half = (found(laboratory, "progression")[index] for index in (1, 3))
    of_items = [
        np.frombuffer((laboratory.results / f"{r.id}.items").read_bytes(), "<f4").astype(float) for r in (grown, half)
    ]
    differences = of_items[0] - of_items[1]  # both are scored on the same items
    margin = stats.t(len(differences) - 1).ppf(0.975) * differences.std(ddof=1) / math.sqrt(len(differences))
    size = abs(grown.quality.value - half.quality.value)
    assert f" −{size:.3f} ± {margin:.3f} paired supported " in text
    assert f" +{size:.3f} ± {margin:.3f} paired not supported here " in text
    text = said(reports["drawings"] / "index.html")
    assert "full amplitudes draw better (Section 1; post-training) 6 supported" in text
    assert "half amplitudes draw better at equal size (Section 2; post-training) 6 not supported here" in text
