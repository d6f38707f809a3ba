"""The scoreboard of papers: counts with their zeros, and the totals in words. Every number here is invented."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from invented import SUITE, Page, made, publish, reference, store

import methods
from benchmarks.papers import scoreboard
from benchmarks.papers.answers import Comparison
from benchmarks.papers.reported import Reported
from benchmarks.papers.scoreboard import Scoreboard
from benchmarks.papers.verdicts import Outcome, Verdict
from benchmarks.records import described
from benchmarks.report import render
from methods.interface import Card

FIDELITIES = {"alpha": "reconstruction", "base": "baseline", "noted": "baseline", "silent": "paper"}
ROW = Reported(task="digits", network="net", metric="top-1", value=90.0, source="T")


def card(key: str) -> Card | None:
    fidelity: Any = FIDELITIES.get(key)
    return Card(key, "A title", ("A. Author",), "Venue", 2020, ("pruning",), fidelity) if fidelity else None


def board(patch: pytest.MonkeyPatch, verdicts: dict[str, list[Outcome]], tests: dict[str, list[str]]) -> Scoreboard:
    patch.setattr(methods, "names", lambda: sorted([*FIDELITIES, "broken"]))
    patch.setattr(described, "card", card)
    found = [Comparison(key, ROW, None, None, Verdict(outcome)) for key, own in verdicts.items() for outcome in own]
    judged: list[Any] = [SimpleNamespace(method=key, outcome=outcome) for key, own in tests.items() for outcome in own]
    return scoreboard.scoreboard(found, judged)


def test_each_paper_has_a_line_with_its_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of baselines only where their numbers are compared, those that can't be imported not at all."""
    found = board(
        monkeypatch,
        {
            "alpha": ["worse", "worse", "not attempted", "accounting matched", "accounting differs"],
            "noted": ["replicated", "not counted"],
        },
        {"alpha": ["supported", "not supported here", "inconclusive", "inconclusive"]},
    )
    assert [(line.method, line.fidelity) for line in found.lines] == [
        ("alpha", "reconstruction"),
        ("noted", "baseline"),
        ("silent", "paper"),
    ]
    assert scoreboard.MEASURED == ("replicated", "better", "worse", "not attempted", "not comparable")
    assert [line.measured for line in found.lines] == [(0, 0, 2, 1, 0), (1, 0, 0, 0, 0), (0, 0, 0, 0, 0)]
    assert [line.counted for line in found.lines] == [(1, 1, 0), (0, 0, 1), (0, 0, 0)]
    assert [line.claimed for line in found.lines] == [(1, 1, 2), (0, 0, 0), (0, 0, 0)]
    total = found.total
    assert (total.measured, total.counted, total.claimed) == ((1, 0, 2, 1, 0), (1, 1, 1), (1, 1, 2))


@pytest.mark.parametrize(
    ("verdicts", "sentences"),
    [
        ([], "No paper reports a number on this suite's task."),
        (
            ["not attempted"] * 1200 + ["worse"],
            "None of the 1,201 reported results is replicated: 1 worse, 1,200 not attempted.",
        ),
        (["replicated", "better"], "1 of the 2 reported results is replicated, by a reconstruction: 1 better."),
        (["replicated", "replicated"], "2 of the 2 reported results are replicated, 2 by reconstructions."),
        (
            ["accounting matched", "accounting differs", "not counted"],
            "Of 3 reported sizes and costs that need no training, 1 match to the last digit.",
        ),
    ],
)
def test_the_totals_are_said(monkeypatch: pytest.MonkeyPatch, verdicts: list[Outcome], sentences: str) -> None:
    assert board(monkeypatch, {"alpha": verdicts}, {}).sentences == sentences


COUNTED = """
[[row]]
task = "digits"
network = "net"
metric = "cf"
value = 8.0
last_digit = 0.1
source = "Table 3"
"""


def test_the_page_says_first_that_nothing_was_replicated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The sentence stands above the methods; chips and neutral words stand at the claims."""
    publish(tmp_path / "alpha", monkeypatch)
    monkeypatch.setattr(methods, "get", lambda key, get=methods.get: get("uniform" if key == "alpha" else key))
    with (tmp_path / "alpha" / "reported.toml").open("a") as file:
        file.write(COUNTED)
    worse = [made(correct=700), *(made("beta", seed=seed, correct=900) for seed in (0, 1))]
    page = Page(render(SUITE, store(tmp_path / "results", [*worse, reference()]), tmp_path / "reports"))
    sentences = (
        "None of the 3 reported results is replicated: 1 worse, 1 not attempted, 1 not comparable. "
        "Of 1 reported sizes and costs that need no training, 0 match to the last digit."
    )
    assert sentences in page.text and page.text.index(sentences) < page.text.index("Methods and replications")
    assert "the task digits has no network net" in page.text and "the method does not count it" in page.text
    assert "1 not supported here" in page.text and "setting of the paper: not known" in page.text
    assert "Of 1 intervals, 1 exclude zero" in page.text
