"""Which record answers a reported number if several could, and the reasons that a verdict gives. Every number is invented."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest
from invented import made, reference

from benchmarks.papers import answers, claimed, claims, quantities
from benchmarks.papers.claims import Claim, Observation, Side
from benchmarks.papers.matching import has
from benchmarks.papers.reported import Reported, Size
from benchmarks.papers.verdicts import Measured, verdict
from benchmarks.records.rows import Row, aggregate

TOP1 = quantities.find("digits", "top-1")


def wanted(**changes: Any) -> Reported:
    fields: dict[str, Any] = {"task": "digits", "network": "net", "metric": "top-1", "value": 90.0, "source": "Table 1"}
    return Reported(**{**fields, **changes})


@pytest.mark.parametrize(
    ("budgets", "nearest"),
    [
        (("post-training", "short", "paper"), "paper"),
        (("post-training", "short"), "short"),
        (("post-training", "paper"), "paper"),
        (("another", "post-training"), "post-training"),
        (("another",), "another"),
    ],
)
def test_the_budget_nearest_to_the_papers_schedule_answers(budgets: tuple[str, ...], nearest: str) -> None:
    rows = [aggregate([made(budget=budget, epochs=n)])[0] for n, budget in enumerate(budgets)]
    for order in itertools.permutations(rows):
        row = answers.find(wanted(), list(order))
        assert row is not None and row.first.budget == nearest
        row = answers.find(wanted(budget=budgets[0]), list(order))
        assert row is not None and row.first.budget == budgets[0]


def test_a_comparison_says_what_was_wanted_and_why_there_is_no_number() -> None:
    (row,) = aggregate([made(correct=850)])
    references = {"net": aggregate([reference()])[0]}
    found = answers.compare("alpha", wanted(baseline=94.0), [row], references)
    assert (found.method, found.row, found.verdict.of_change) == ("alpha", row, True)
    assert found.reported == wanted(baseline=94.0)
    assert found.measured is not None and found.measured.reference == pytest.approx(95.0)
    assert found.verdict.delta == pytest.approx((85 - 95) - (90 - 94))
    for rows, changes in (([], {}), ([row], {"task": "cifar10"}), ([row], {"method": "beta"})):
        none = answers.compare("alpha", wanted(**changes), rows, references)
        assert (none.row, none.measured, none.verdict.outcome) == (None, None, "not attempted")
    lacking = aggregate([msgspec.structs.replace(made(), metrics={"other": made().quality})])
    judged = answers.compare("alpha", wanted(), [Row("key", lacking[0].records)], references)
    assert judged.verdict.reason == "the record has no top-1" and judged.measured is None
    assert TOP1 is not None and (TOP1.value(lacking[0]), TOP1.error(lacking[0])) == (None, 0.0)


def test_reasons_are_said_in_full() -> None:
    size = Size(value=4.0, unit="ratio", counts="file")
    ratio, four = quantities.find("digits", "ratio"), Measured(4.0, 0.0, reference=1.0)
    judged = verdict(wanted(comparable="read off a figure"), TOP1, Measured(90.0, 0.1))
    assert (judged.outcome, judged.reason) == ("not comparable", "read off a figure")
    judged = verdict(wanted(metric="psnr"), None, None)
    assert (judged.outcome, judged.reason) == ("not comparable", "psnr is not measured here")
    judged = verdict(wanted(metric="ratio", value=4.0, baseline=2.0, size=size), ratio, four)
    assert (judged.outcome, judged.of_change, judged.delta) == ("replicated", False, 0.0)  # sizes are no changes
    for counts, whose in (
        ("unstated", "the paper's way of counting is not known"),
        ("params", "the paper counts params"),
    ):
        judged = verdict(wanted(metric="ratio", size=Size(value=4.0, unit="ratio", counts=counts)), ratio, four)  # type: ignore[arg-type]
        assert judged.reason == f"{whose}; this suite counts the bytes of the whole file"
    assert verdict(wanted(), TOP1, None).reason == ""
    assert not verdict(wanted(baseline=91.0), TOP1, Measured(90.0, 0.1)).of_change
    assert not verdict(wanted(), TOP1, Measured(90.0, 0.1, reference=91.0)).of_change


def test_less_of_a_complement_is_better() -> None:
    error = quantities.find("digits", "error")
    assert error is not None and error.more_is_better is False
    assert verdict(wanted(metric="error", value=10.0), error, Measured(8.0, 0.1)).outcome == "better"
    assert verdict(wanted(metric="error", value=10.0), error, Measured(12.0, 0.1)).outcome == "worse"


def test_settings_match_by_value() -> None:
    """Numbers up to their sixth digit and whatever their type, other values exactly."""
    found = {"rate": 0.1, "count": 3, "mode": "plain"}
    assert has(found, {"rate": 0.1 * (1 + 1e-7), "count": 3.0, "mode": "plain"})
    for other in ({"rate": 0.1001}, {"count": "3"}, {"mode": 3}, {"mode": "Plain"}, {"gone": 1}):
        assert not has(found, other)


def test_what_is_judged_names_its_method_network_and_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A claim or an observation on another task is passed over, and those after it are judged."""
    common: dict[str, Any] = {"text": "t", "source": "s", "budget": "post-training"}
    sides = {"better": Side(method="alpha"), "worse": Side(method="beta")}
    noted: dict[str, Any] = {"of": Side(method="alpha"), "note": "shared", "above": 0.5}
    known = claims.Claims(
        claim=[Claim(task=task, at="mode", **common, **sides) for task in ("gone", "digits")],
        observation=[Observation(task=task, **common, **noted) for task in ("gone", "digits")],
    )
    monkeypatch.setattr(claimed, "_known", lambda: [("alpha", known)])
    records = [
        made(method, correct=correct, point={"mode": "soft"}, notes={"shared": 0.9})
        for method, correct in (("alpha", 900), ("beta", 700))
    ]
    (judged,) = claimed.judged(aggregate(records), {"digits"}, tmp_path)
    assert (judged.method, judged.network, judged.place) == ("alpha", "net", "mode soft")
    assert judged.outcome == "supported" and judged.difference == pytest.approx(20)
    (observed,) = claimed.observed(aggregate(records), {"digits"})
    assert (observed.method, observed.network, observed.place) == ("alpha", "net", "mode=soft")
    assert observed.claim.task == "digits" and observed.note.mean == pytest.approx(0.9)
