"""Reported numbers: the file's schema, the verdicts, and which record answers. Every number here is invented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from invented import PSNR, RMSE, SSIM, around, invent_task, made, reference

import methods
from benchmarks.errors import RateBenchError
from benchmarks.fingerprint import ROOT
from benchmarks.papers import answers, matching, quantities, reported
from benchmarks.papers.reported import Reported, Size
from benchmarks.papers.verdicts import Measured, Verdict
from benchmarks.papers.verdicts import verdict as judge
from benchmarks.records import described
from benchmarks.records.rows import aggregate, references
from benchmarks.report import about, page, series
from benchmarks.running import params, plan
from methods.interface import Card

FILE = """
[[row]]
task = "digits"
network = "net"
point = {sparsity = 0.5}
metric = "top-1"
value = 91.2
baseline = 95
size = {value = 12.5, unit = "ratio", counts = "weights only"}
source = "Table 2, p. 7"
tolerance = 0.3
"""
CARD = Card("alpha", "A title", ("A. Author",), "Venue", 2020, ("pruning",), "reconstruction")


def row(**changes: Any) -> Reported:
    fields: dict[str, Any] = {"task": "digits", "network": "net", "metric": "top-1", "value": 90.0, "source": "Table 1"}
    return Reported(**{**fields, **changes})


def verdict(wanted: Reported, found: Measured | None, why: str = "") -> Verdict:
    return judge(wanted, quantities.find(wanted.task, wanted.metric), found, why)


def test_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reported.toml").write_text(FILE)
    monkeypatch.setattr(methods, "source", lambda key: tmp_path)
    (read,) = reported.of("alpha")
    assert (read.value, read.baseline, read.point, read.known_gap) == (91.2, 95, {"sparsity": 0.5}, "")
    assert read.size == Size(value=12.5, unit="ratio", counts="weights only")


def test_a_method_may_report_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "source", lambda key: tmp_path)
    assert reported.of("alpha") == []
    monkeypatch.setattr(methods, "source", lambda key: tmp_path / "baseline.py")
    assert reported.of("alpha") == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FILE + 'digitised = "yes"', "digitised"),
        (FILE.replace('"weights only"', '"bits"'), "Invalid enum value"),
        (FILE.replace("value = 91.2", 'value = "91.2"'), "Expected `float`"),
        (FILE.replace('source = "Table 2, p. 7"', ""), "source"),
        ("[[rows]]", "rows"),
        ("row = [", ""),
        ("\udcff", ""),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "reported.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RateBenchError, match=f"reported.toml.*{reason}"):
        reported.read(path)
    with pytest.raises(RateBenchError, match=r"can't read .*absent.toml"):
        reported.read(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("wanted", "found", "text"),
    [
        (row(tolerance=0.5), Measured(89.5, 0.1), "replicated"),  # exactly the tolerance
        (row(tolerance=0.5), Measured(89.4, 0.1), "0.60 points below reported"),
        (row(), Measured(89.4, 0.3), "replicated"),  # two standard errors
        (row(tolerance=0.1), Measured(90.7, 0.3), "better"),
        (row(baseline=91.0), Measured(92.0, 0.1, reference=93.0), "replicated"),  # both lose one point
        (row(baseline=91.0), Measured(91.0, 0.1, reference=93.0), "1.00 points below reported"),
        (row(baseline=91.0), Measured(91.0, 0.1), "better"),  # no reference here: plain values
        (row(metric="error", value=10.0), Measured(12.0, 0.1), "2.00 points above reported"),
        (row(metric="bytes", value=5000), Measured(6000, 0), "1,000 bytes above reported"),
        (row(metric="bytes", value=5000, baseline=9000), Measured(4000, 0, reference=10_000), "better"),
        (row(metric="ratio", value=12.0), Measured(11.5, 0), "0.50× below reported"),
        (row(metric="psnr"), None, "not comparable"),
        (row(comparable="read off a figure"), Measured(90.0, 0.1), "not comparable"),
        (row(), None, "not attempted"),
    ],
)
def test_verdicts(wanted: Reported, found: Measured | None, text: str) -> None:
    assert verdict(wanted, found, "no record").text == text


def test_another_accounting_is_not_comparable() -> None:
    counted = Size(value=12.0, unit="ratio", counts="weights only")
    judged = verdict(row(metric="ratio", value=12.0, size=counted), Measured(12.0, 0))
    assert (judged.outcome, "weights only" in judged.reason) == ("not comparable", True)
    unstated = Size(value=12.0, unit="ratio", counts="unstated")
    judged = verdict(row(metric="ratio", value=12.0, size=unstated), Measured(12.0, 0))
    assert (judged.outcome, "is not known" in judged.reason) == ("not comparable", True)
    assert verdict(row(size=counted), Measured(90.0, 0.1)).outcome == "replicated"  # accuracy is not counted in bytes


def test_reasons_are_kept() -> None:
    assert verdict(row(known_gap="fewer epochs"), Measured(80.0, 0.1)).reason == "fewer epochs"
    assert verdict(row(), None, "no record of net").reason == "no record of net"


def test_every_quantity_can_be_read() -> None:
    (measured_row,) = aggregate([made(file_bytes=10_000, correct=900)])
    found = {name: quantities.find("digits", name) for name in ("top-1", "error", *quantities.SIZES)}
    values = {name: quantity.value(measured_row) for name, quantity in found.items() if quantity}
    assert values == pytest.approx(
        {
            "top-1": 90.0,
            "error": 10.0,
            "ratio": 4.0,
            "size_reduction": 75.0,
            "bits_per_weight": 8.0,
            "bits_per_pixel": 6.0,
            "bytes": 10_000,
            "parameter_ratio": 2.0,
            "nonzero_share": 50.0,
            "macs": 1_234_567,
            "flops": 2_469_134,
        }
    )
    errors = [found[name].error(measured_row) for name in ("top-1", "error", "bytes")]
    assert errors == [pytest.approx(100 * (0.9 * 0.1 / 1000) ** 0.5)] * 2 + [0]


@pytest.mark.parametrize(
    ("metric", "value", "found", "text"),
    [
        ("rmse", 10.0, 12.0, "2.000 mm above reported"),
        ("rmse", 10.0, 9.0, "better"),
        ("psnr", 30.0, 28.5, "1.50 dB below reported"),
        ("psnr", 30.0, 31.0, "better"),
        ("top-1", 30.0, 31.0, "not comparable"),
        ("error", 30.0, 31.0, "not comparable"),
    ],
)
def test_other_tasks_have_other_metrics(
    monkeypatch: pytest.MonkeyPatch, metric: str, value: float, found: float, text: str
) -> None:
    """Of a metric of which less is better, a smaller number is the better one; what a task does not have is not measured."""
    invent_task(monkeypatch, "positions", RMSE, PSNR)
    assert verdict(row(task="positions", metric=metric, value=value), Measured(found, 0.1)).text == text


def test_a_row_without_the_quantity_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of before the task had a second metric; and bits per weight where there is no reference network."""
    invent_task(monkeypatch, "pictures", PSNR, SSIM)
    rate = msgspec.structs.replace(made().rate, bits_per_weight=None)
    rows = aggregate([made(task="pictures", metrics={"psnr": around(PSNR, 30.0)}, rate=rate)])
    for metric in ("ssim", "bits_per_weight"):
        found = answers.compare("alpha", row(task="pictures", metric=metric, value=1.0), rows, {})
        assert (found.verdict.outcome, found.verdict.reason) == ("not attempted", f"the record has no {metric}")
    found = answers.compare("alpha", row(task="pictures", metric="psnr", value=30.0), rows, {})
    assert found.verdict.outcome == "replicated" and found.measured is not None
    assert found.measured.standard_error == pytest.approx((24 / 23 / 24) ** 0.5)


def test_the_row_that_answers() -> None:
    """All has to fit; of several, the configuration nearest the default and the budget nearest the paper's answer."""
    rows = aggregate([made(), made(index=1), made(budget="short", epochs=5), made(budget="paper", epochs=None)])
    found = answers.find(row(point={"sparsity": 0.5}), rows)
    assert found is not None and (found.first.budget, found.first.index) == ("paper", 0)
    for wanted in (
        row(point={"sparsity": 0.9}),
        row(network="vgg"),
        row(task="cifar"),
        row(config={"mode": "other"}),
        row(budget="long"),
    ):
        assert answers.find(wanted, rows) is None
    short = answers.find(row(point={"sparsity": 0.5}, budget="short"), rows)
    assert short is not None and short.first.budget == "short"
    assert answers.find(row(), []) is None


def test_several_networks_answer_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern of names: the mean over networks, with the standard error over them. Wrong code: the first network alone."""
    rows = aggregate(
        [made(network=f"net_{i}", correct=correct) for i, correct in enumerate((900, 880, 860))]
        + [reference(f"net_{i}") for i in range(3)]
        + [made(network="other", correct=100)]
    )
    found = answers.compare("alpha", row(network="net_*", value=88.0), rows, references(rows))
    assert found.measured is not None and found.row is not None and found.row.first.network == "net_0"
    assert found.measured == Measured(pytest.approx(88.0), pytest.approx(2 / 3**0.5), pytest.approx(95.0))  # type: ignore[arg-type]
    increase = answers.compare(
        "alpha", row(network="net_*", metric="top-1_increase", value=-7.0), rows, references(rows)
    )
    changes = [100 * (value / 95 - 1) for value in (90, 88, 86)]
    assert increase.measured is not None and increase.measured.reference is None
    assert increase.measured.value == pytest.approx(sum(changes) / 3) and increase.verdict.outcome == "replicated"
    single = answers.compare("alpha", row(network="net_0", metric="top-1_increase", value=-7.0), rows, references(rows))
    assert single.measured is not None and single.measured.value == pytest.approx(changes[0])
    assert single.measured.standard_error == pytest.approx(100 * (0.9 * 0.1 / 1000) ** 0.5 * 100 / 95)
    unknown = answers.compare("alpha", row(network="net_*", metric="top-1_increase", value=-7.0), rows, {})
    assert unknown.measured is None and unknown.verdict.outcome == "not attempted"


def test_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """95.0 % is the reference here; the paper goes from 96.0 to 91.0, as the record does from 95.0 to 90.0."""
    wanted = [row(point={"sparsity": 0.5}, value=91.0, baseline=96.0), row(task="another")]
    monkeypatch.setattr(methods, "names", lambda: ["alpha", "broken"])
    monkeypatch.setattr(described, "card", lambda key: None if key == "broken" else object())
    monkeypatch.setattr(reported, "of", lambda key: wanted)
    rows = aggregate([made(correct=900), reference()])
    (comparison,) = answers.comparisons(rows, references(rows), {"digits"})
    wanted[0] = row(method="plain", value=95.0)  # what this paper says of another method
    (other,) = answers.comparisons(rows, references(rows), {"digits"})
    assert other.row is not None and (other.method, other.row.first.method) == ("alpha", "plain")
    assert (comparison.verdict.outcome, comparison.verdict.of_change) == ("replicated", True)
    assert comparison.verdict.delta == pytest.approx(0.0)
    measured = comparison.measured
    assert measured is not None and (measured.value, measured.reference) == (90.0, 95.0)
    assert measured.standard_error == pytest.approx(100 * (0.9 * 0.1 / 1000) ** 0.5)


def test_context_is_no_number_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands beside no record and in no count; a task that no suite can have is shown with every suite."""
    apart = [row(source=task, task=task, context=True) for task in ("digits", "coco", "imagenet")]
    monkeypatch.setattr(methods, "names", lambda: ["alpha"])
    monkeypatch.setattr(described, "card", lambda key: CARD)
    monkeypatch.setattr(reported, "of", lambda key: apart)
    rows = aggregate([made(), reference()])
    known = references(rows)
    found = list(answers.comparisons(rows, known, {"digits"}))
    assert not found
    lines = [line for line in series.series(rows) if line.method == "alpha"]
    (told,) = about.about(lines, known, found)
    assert [known.source for known in told.context] == ["digits", "coco"] and told.silent and not told.verdicts
    apart.append(row(metric=reported.CLAIM, value=0))
    (told,) = about.about(lines, known, list(answers.comparisons(rows, known, {"digits"})))
    assert told.verdicts == {} and [c.verdict.outcome for c in told.open] == ["not comparable"] and not told.silent
    assert page.reported_value(apart[-1]) == "–" and page.reported_value(row(value=0)) == "0"


def test_the_full_replication_runs_what_papers_report_of_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row that can be compared has a configuration in params.yaml that will answer it."""
    monkeypatch.chdir(ROOT)
    params._params.cache_clear()
    cells = [cell for budget in ("post-training", "paper") for cell in plan.cells("imagenet", budget_name=budget)]

    def answered(row: Reported, method: str) -> bool:
        found = (c for c in cells if (c.method, c.network) == (method, row.network))
        return any(
            row.budget in ("", cell.budget.name)
            and matching.has(cell.config, row.config)
            and (
                row.point.get("rate")
                in (None, *cell.config.get("paper_rates" if cell.budget.epochs is None else "rates", ()))
                or [row.point.get("groups"), row.point["rate"]] in map(list, cell.config.get("points", ()))
            )
            and row.point.get("ratio") in (None, *cell.config.get("ratios", ()))
            for cell in found
        )

    rows = [(row, row.method or key) for key in methods.names() for row in reported.of(key)]
    compared = [(row, method) for row, method in rows if row.task == "imagenet" and not (row.comparable or row.context)]
    assert compared and all(answered(row, method) for row, method in compared)
    params._params.cache_clear()
