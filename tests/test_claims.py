"""Claims: the file's schema, the judgement, and which rows are compared. Every number here is invented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from invented import made

import methods
from benchmarks import claims
from benchmarks.claims import Claim, Side
from benchmarks.errors import RateBenchError
from benchmarks.report import cards, claimed, frame

FILE = """
[[claim]]
text = "alpha beats beta"
source = "Section 4"
task = "digits"
budget = "short"
at = "target"
better = { method = "alpha", config = { mode = "plain" } }
worse = { method = "beta" }
"""


def test_every_claim_at_hand_follows_the_schema() -> None:
    known = {key: claims.of(key) for key in methods.names()}
    assert known["jsvd"] and not known["uniform"]
    for claim in (c for found in known.values() for c in found):
        assert {claim.better.method, claim.worse.method} <= set(methods.names())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FILE + "extra = 1", "extra"),
        (FILE.replace('source = "Section 4"', ""), "source"),
        (FILE.replace('{ method = "beta" }', '"beta"'), "Expected `object`"),
        ("claim = [", ""),
    ],
)
def test_a_bad_file_is_named(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "claims.toml").write_text(text)
    with pytest.raises(RateBenchError, match=f"claims.toml.*{reason}"):
        claims.read(tmp_path / "claims.toml")
    with pytest.raises(RateBenchError, match="can't read"):
        claims.read(tmp_path / "absent.toml")


def test_judgement_by_hand() -> None:
    assert claims.judge((91.0, 0.3), (90.0, 0.4)) == (1.0, pytest.approx(0.979982), "held")
    assert claims.judge((90.0, 0.3), (91.0, 0.4))[2] == "not held"
    assert claims.judge((90.9, 0.3), (90.0, 0.4))[2] == "undecided"


def rows(**changes: Any) -> list[Any]:
    common = {"budget": "short", "epochs": 2.5, **changes}
    records = [
        *(made("alpha", seed, 0, correct=900 + seed, point={"target": 8}, **common) for seed in (0, 1, 2)),
        made("alpha", 0, 1, correct=700, point={"target": 12.0}, **common),
        *(made("beta", seed, 0, correct=800, point={"target": 8.0}, **common) for seed in (0, 1, 2)),
        made("beta", 0, 1, correct=800, point={"target": 12.0}, **common),
        made("beta", 0, 2, correct=800, point={"sparsity": 0.5}, **common),
    ]
    return frame.aggregate(records)


def judged(monkeypatch: pytest.MonkeyPatch, claim: Claim, table: list[Any], tasks: set[str]) -> list[claimed.Judged]:
    monkeypatch.setattr(methods, "names", lambda: ["alpha", "gone"])
    monkeypatch.setattr(cards, "card", lambda key: None if key == "gone" else object())
    monkeypatch.setattr(claims, "of", lambda key: [claim])
    return list(claimed.judged(table, tasks))


def test_points_meet_where_both_have_the_label(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "claims.toml").write_text(FILE)
    (claim,) = claims.read(tmp_path / "claims.toml")
    found = judged(monkeypatch, claim, rows(), {"digits"})
    assert [(j.network, j.value, j.outcome) for j in found] == [("net", 8, "held"), ("net", 12.0, "not held")]
    assert found[0].difference == pytest.approx(10.1)
    ((first, points, tally),) = claimed.grouped(found)
    assert first is found[0] and points == found and tally == [("held", 1), ("not held", 1)]
    assert not judged(monkeypatch, claim, rows(), {"cifar10"})
    assert not judged(monkeypatch, claim, rows(budget="post-training"), {"digits"})
    other = Claim(
        **{
            **{f: getattr(claim, f) for f in claim.__struct_fields__},
            "worse": Side(method="alpha", config={"mode": "x"}),
        }
    )
    assert not judged(monkeypatch, other, rows(), {"digits"})
