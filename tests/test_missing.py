"""Why a reported number has no record: what is missing, and the command if it can be run. Every number here is invented."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from invented import made

from benchmarks.fingerprint import ROOT
from benchmarks.papers import answers, reported
from benchmarks.papers.missing import Planned
from benchmarks.papers.reported import Reported
from benchmarks.records.rows import aggregate
from benchmarks.report import cells
from benchmarks.running import params

NETWORK = "digits_cnn"
PLANNED = Planned("alpha", "digits", NETWORK, {"mode": "plain", "steps": 3}, "h", "short", "ratebench run digits …")


def why(planned: list[Planned], records: list[Any] = [], **changes: Any) -> str:  # noqa: B006
    fields: dict[str, Any] = {"task": "digits", "network": NETWORK, "metric": "top-1", "value": 90.0, "source": "T"}
    found = answers.compare("alpha", Reported(**{**fields, **changes}), aggregate(records), {}, planned)
    assert found.verdict.outcome == "not attempted"
    return found.verdict.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"network": "resnet34"}, "the task digits has no network resnet34"),
        ({"network": "digits_resnet"}, "this suite does not plan alpha on digits_resnet"),
        ({"method": "beta"}, f"this suite does not plan beta on {NETWORK}"),
        ({"task": "imagenet", "network": "resnet18"}, "this suite does not plan alpha on resnet18"),
        ({"task": "gone", "network": "any", "metric": "bytes"}, "this suite does not plan alpha on any"),
        ({"budget": "paper"}, f"this suite plans no paper budget for alpha on {NETWORK}"),
        ({"config": {"mode": "other"}}, "no planned configuration of alpha has mode=other"),
        ({"config": {"mode": "plain"}, "budget": "short"}, "no record yet: `ratebench run digits …`"),
        ({}, "no record yet: `ratebench run digits …`"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, Any], reason: str) -> None:
    assert why([PLANNED], **changes) == reason


def test_what_was_run_is_not_asked_for_again() -> None:
    """A record of one configuration leaves the other to be run; if all were run, the point is what is missing."""
    done = made(network=NETWORK, budget="short", epochs=1, config=PLANNED.config)
    wanted = {"point": {"sparsity": 0.99}}
    second = replace(PLANNED, config={"mode": "plain", "steps": 4}, command="the second")
    assert why([PLANNED, second], [done], **wanted) == "no record yet: `the second`"
    assert why([PLANNED, second], [done], budget="paper") == f"this suite plans no paper budget for alpha on {NETWORK}"
    assert why([PLANNED], [done], **wanted) == "no planned configuration of alpha gives a point with sparsity=0.99"


def test_every_reason_on_cifar10_names_a_network_or_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    params._params.cache_clear()
    planned = cells.planned_cells("cifar10")
    assert all(re.search(rf"--network {p.network} .*--budget {p.budget}$", p.command) for p in planned)
    assert {"resnet20", "resnet56"} == {p.network for p in planned}
    rows = [
        row for row in reported.of("jsvd") if row.task == "cifar10" and not row.is_accounting and not row.comparable
    ]
    reasons = {answers.compare("jsvd", row, [], {}, planned).verdict.reason for row in rows}
    assert reasons == {f"this suite does not plan {row.method or 'jsvd'} on {row.network}" for row in rows}
    assert {row.network for row in rows} == {f"resnet{depth}" for depth in (18, 34, 50)}
    own = Reported(task="cifar10", network="resnet20", metric="top-1", value=90.0, source="T", budget="short")
    assert re.fullmatch(
        r"no record yet: `ratebench run cifar10 --method jsvd --network resnet20 --config [0-9a-f]{8} --budget short`",
        answers.compare("jsvd", own, [], {}, planned).verdict.reason,
    )
    params._params.cache_clear()
