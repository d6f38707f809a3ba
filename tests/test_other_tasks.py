"""Tasks that are no image classification go the whole way: run, record, show, plan, report, verdicts and claims.

Each is one file (`tests/other`); nothing of the project is changed for them, and nothing calls their scores by another
task's names.
"""

from __future__ import annotations

import html
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_runner
import torch
from invented import Page
from scipy import stats
from test_runner import InProcess, Laboratory

import methods
from benchmarks import networks, records, registry, tasks
from benchmarks.evaluation import verify
from benchmarks.records import items

laboratory = test_runner.laboratory
OTHER = Path(__file__).parent / "other"
SUITES = {
    "diabetes": {"task": "diabetes", "networks": ["mlp"], "methods": ["rounder"], "seeds": [0]},
    "pictures": {"task": "pictures", "networks": ["digits"], "methods": ["rounder"], "seeds": [0]},
}
FOREIGN = re.compile(r"top-1|top-5|accurac|correctly|classif", re.IGNORECASE)


@pytest.fixture
def others(laboratory: Laboratory) -> Iterator[Laboratory]:
    """A checkout with both tasks, their network and a method that works on them."""
    for package, names in ((tasks, ("diabetes", "pictures")), (networks, ("mlp",))):
        folder = laboratory.folder / package.__name__.rpartition(".")[2]
        folder.mkdir()
        for name in names:
            shutil.copy(OTHER / f"{name}.py", folder)
        laboratory.patch.setattr(package, "__path__", [*package.__path__, str(folder)])
    registry.names.cache_clear()
    shutil.copytree(OTHER / "rounder", laboratory.folder / "packages" / "rounder")
    known = methods._locations()
    laboratory.patch.setattr(methods, "_locations", lambda: {**known, "rounder": "rounder"})
    laboratory.patch.setattr(verify, "Scorer", InProcess)  # a fresh process would not know the tasks
    laboratory.configure(**SUITES)
    yield laboratory
    laboratory.patch.undo()
    registry.names.cache_clear()
    for module in ("rounder", "benchmarks.tasks.diabetes", "benchmarks.tasks.pictures", "benchmarks.networks.mlp"):
        sys.modules.pop(module, None)


def visible(page: Path) -> str:
    """The words of a page: without scripts, styles and figures."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", page.read_text(encoding="utf-8"), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


@pytest.mark.parametrize(
    ("suite", "metric", "unit"), [("diabetes", "squared error", "mg²"), ("pictures", "PSNR", "dB")]
)
def test_a_task_of_another_kind_goes_the_whole_way(
    others: Laboratory, capsys: pytest.CaptureFixture[str], suite: str, metric: str, unit: str
) -> None:
    others.patch.setenv("COLUMNS", "250")
    assert others.ratebench("run", suite) == 0
    said = capsys.readouterr().out
    known = list(records.load(others.results, suite))
    assert [r.point for r in known] == [{"bits": 12}, {"bits": 6}, {"bits": 3}]
    for r in known:
        values = items.read(others.results / f"{r.id}.json", tasks.metric(suite, metric), r.quality)
        assert values is not None and list(r.metrics) == [metric]
        assert r.quality.value == pytest.approx(float(values.double().mean()), rel=1e-6)
        spread = stats.t.interval(0.95, len(values) - 1, r.quality.value, stats.sem(values.double()))
        assert (r.quality.low, r.quality.high) == pytest.approx(spread, rel=1e-5)
    for command in ("plan", "show", "report"):
        assert others.ratebench(command, suite) == 0, command
    said += capsys.readouterr().out
    assert others.ratebench("verify", suite) == 0
    folder = others.folder / "reports" / suite
    words = visible(folder / "index.html")
    data = Page(folder / "index.html").data
    table = (folder / "records.csv").read_text(encoding="utf-8")
    for text in (said, words, str(data), table.partition("\n")[0]):
        assert not FOREIGN.search(text), FOREIGN.search(text)
    assert metric in words and unit in words and metric in said


def test_an_image_task_has_no_reference_network(others: Laboratory) -> None:
    assert others.ratebench("run", "pictures") == 0
    for r in records.load(others.results, "pictures"):
        assert r.rate.uncompressed_bytes == 192 and r.rate.ratio == pytest.approx(192 / r.rate.file_bytes)
        assert r.rate.bits_per_weight is None
        assert r.quality.items == 3


def test_lower_is_better_in_verdicts_claims_and_the_order_of_lines(others: Laboratory) -> None:
    from benchmarks.papers import answers, claimed
    from benchmarks.records import rows

    assert others.ratebench("run", "diabetes") == 0
    table = rows.aggregate(list(records.load(others.results, "diabetes")))
    fine, coarse = table[0].first.quality.value, table[-1].first.quality.value
    assert fine < coarse, "rounding makes a regression worse"
    found = {
        c.reported.point["bits"]: c.verdict
        for c in answers.comparisons(table, rows.references(table), {"diabetes"})
        if c.method == "rounder"
    }
    assert found[12].outcome == "worse" and "above reported" in found[12].text  # 2,000 was reported
    assert found[3].outcome == "better"
    judged = [claim for claim in claimed.judged(table, {"diabetes"}) if claim.method == "rounder"]
    assert [claim.outcome for claim in judged] == ["inconclusive"] * 3  # each point against itself


@pytest.mark.parametrize("suite", ["diabetes", "pictures"])
def test_a_method_for_another_kind_of_task_is_refused_before_anything_else(
    others: Laboratory, capsys: pytest.CaptureFixture[str], suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("the method was asked")

    monkeypatch.setattr(methods.get("uniform"), "unsupported", asked)
    others.patch.setenv("COLUMNS", "250")
    kind = tasks.load(suite, SUITES[suite]["networks"][0]).kind
    sentence = f"works on image classification, not on {kind}"
    assert others.ratebench("plan", suite, "-m", "uniform") == 0
    assert sentence in capsys.readouterr().out
    assert others.ratebench("run", suite, "-m", "uniform") == 0
    assert "0 to run" in capsys.readouterr().out


def test_the_reference_of_a_regression_is_worth_compressing(others: Laboratory) -> None:
    """Else the test above shows nothing: predictions have to beat the mean of the targets."""
    task = tasks.load("diabetes", "mlp")
    x, y = task.validation.inputs, task.validation.targets
    with torch.no_grad():
        assert task.loss(task.reference()(x), y) < (y - y.mean()).square().mean()
