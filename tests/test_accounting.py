"""Numbers of papers that follow from structures: rounding, verdicts, and what a method may count. Most numbers are invented."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_jsvd_tables import flops

import methods
from benchmarks import importing
from benchmarks.fingerprint import ROOT, parsed
from benchmarks.papers import accounting, answers, reported
from benchmarks.papers.reported import Reported
from methods.jsvd import accounting as ours


def row(value: float, last_digit: float, **changes: Any) -> Reported:
    fields: dict[str, Any] = {"task": "digits", "network": "net", "metric": "cf", "source": "T", **changes}
    return Reported(value=value, last_digit=last_digit, **fields)


@pytest.mark.parametrize(
    ("value", "last_digit", "counted", "text"),
    [
        (3.42e8, 1e6, 342_499_999, "accounting matched"),
        (3.42e8, 1e6, 342_500_001, "accounting differs by 1,000,000"),
        (3.40e8, 1e6, 340_400_000, "accounting matched"),  # printed as 3.40: a trailing zero is a digit
        (3.40e8, 1e6, 341_000_000, "accounting differs by 1,000,000"),
        (17.76, 0.01, 17.7566, "accounting matched"),
        (6.48, 0.01, 6.2763, "accounting differs by 0.2"),
        (0.1, 0.1, 0.3, "accounting differs by 0.2"),
    ],
)
def test_a_count_is_rounded_as_printed(value: float, last_digit: float, counted: float, text: str) -> None:
    found = accounting.verdict(row(value, last_digit, known_gap="a slip"), counted)
    assert found.text == text
    assert found.reason == ("a slip" if "differs" in text else "")
    assert found.delta is not None and (found.delta > 0) == (counted > value and "differs" in text)


def test_a_method_counts_what_it_can(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No module, no number, an error: each is said, and no record is asked for."""
    monkeypatch.setattr(methods, "source", lambda key: tmp_path)
    monkeypatch.setattr(methods, "get", lambda key: SimpleNamespace(__name__="some.alpha"))
    known = row(2.0, 0.1)
    found = answers.compare("alpha", known, [], {})
    assert (found.measured, found.verdict.outcome) == (None, "not counted")
    assert found.verdict.reason == "the method does not count it"
    (tmp_path / "accounting.py").touch()
    asked = []
    counts = iter([2.04, None])

    def load(module: str, what: str) -> Any:
        asked.append(module)
        return SimpleNamespace(count=lambda row: next(counts))

    monkeypatch.setattr(importing, "load", load)
    found = answers.compare("alpha", known, [], {})
    assert found.measured is not None and (found.measured.value, found.row) == (2.04, None)
    assert (found.verdict.outcome, found.verdict.delta, asked) == ("accounting matched", 0, ["some.alpha.accounting"])
    assert answers.compare("alpha", known, [], {}).verdict.reason == "the method does not count it"
    found = answers.compare("alpha", known, [], {})
    assert (found.verdict.outcome, found.verdict.text) == ("not counted", "not counted")
    assert found.verdict.reason.startswith("the method could not count it: StopIteration")


def test_accounting_is_no_part_of_a_fingerprint() -> None:
    files = list((ROOT / "methods").rglob("accounting.py"))
    assert files and all(parsed(file.read_text("utf-8")).content == "" for file in files)


@pytest.mark.parametrize("key", [key for key in methods.names() if any(row.is_accounting for row in reported.of(key))])
def test_every_accounting_row_of_papers_is_counted(key: str) -> None:
    """FLOPs are compared in the tests of the tables."""
    for row in (row for row in reported.of(key) if row.is_accounting and row.metric != "flops"):
        assert accounting.judged(key, row)[1].outcome in ("accounting matched", "accounting differs"), row


def test_the_accounting_rows_of_jsvd_are_these() -> None:
    """The small ones here; all printed FLOPs are compared in the tests of the tables."""
    rows = [row for row in reported.of("jsvd") if row.is_accounting]
    assert {row.metric for row in rows} == {"params", "cf", "flops"} and not any(row.comparable for row in rows)
    small = [row for row in rows if row.metric != "flops" or (row.task, row.network) == ("cifar100", "resnet18")]
    found = [(row, accounting.judged("jsvd", row)[1]) for row in small]
    differ = {(r.task, r.network, r.metric, r.value): v.text for r, v in found if v.outcome != "accounting matched"}
    assert differ == {
        ("cifar10", "resnet50", "params", 23_500_000): "accounting differs by 30,000",
        ("cifar100", "resnet50", "params", 23_690_000): "accounting differs by 40,000",
        ("cifar10", "resnet34", "cf", 13.92): "accounting differs by 0.01",
        ("cifar10", "resnet50", "cf", 6.48): "accounting differs by 0.2",
        ("cifar10", "resnet50", "cf", 5.37): "accounting differs by 0.14",
        ("cifar100", "resnet50", "cf", 6.21): "accounting differs by 0.18",
        ("cifar100", "resnet50", "cf", 5.19): "accounting differs by 0.13",
        ("cifar100", "resnet18", "flops", 344_000_000.0): "accounting differs by 1,000,000",
    }
    assert all(ours.count(row) == flops(row) for row in small if row.metric == "flops")


def test_printed_digits_are_those_of_the_values() -> None:
    """FLOPs have three printed digits, compression factors two decimals: a slip in `last_digit` would hide a difference."""
    for row in (row for row in reported.of("jsvd") if row.is_accounting):
        printed = f"{row.value:.2e}" if row.metric == "flops" else f"{row.value:.2f}"
        assert row.last_digit is not None
        digits = round(row.value / row.last_digit)
        assert digits * row.last_digit == pytest.approx(float(printed), rel=1e-12)
        assert row.metric == "params" or row.last_digit == pytest.approx(
            10 ** (int(printed.partition("e+")[2]) - 2) if "e" in printed else 0.01
        )
