"""Claims: the file's schema, the judgement, and which rows are compared. Every number here is invented."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from invented import made

import methods
from benchmarks.errors import RateBenchError
from benchmarks.papers import claimed, claims
from benchmarks.papers.claims import Claim, Side
from benchmarks.records import Counted, described
from benchmarks.records.rows import aggregate

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
    assert known["jsvd"].claim and known["aq"].observation and not known["uniform"].claim
    for found in known.values():
        sides = [s for c in found.claim for s in (c.better, c.worse)] + [o.of for o in found.observation]
        for side in sides:
            assert side.method in methods.names()
            assert side.config.keys() <= set(methods.get(side.method).Config.__dataclass_fields__)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FILE + "extra = 1", "extra"),
        (FILE.replace('source = "Section 4"', ""), "source"),
        (FILE.replace('{ method = "beta" }', '"beta"'), "Expected `object`"),
        (
            FILE.replace('"beta" }', '"beta", counted = "values" }'),
            "`counted` belongs to claims at 'bytes', not at 'target'",
        ),
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
    """A single difference counts beyond 1.96 standard errors, in the direction of the metric."""
    for size, more, outcome in (
        (1.95, True, "inconclusive"),
        (1.97, True, "supported"),
        (1.97, False, "not supported here"),
        (-1.97, True, "not supported here"),
        (-1.97, False, "supported"),
    ):
        assert claims.outcomes([(0.5 * size, 0.5, math.inf)], more) == [outcome]
    assert claims.outcomes([(0.0, 0.0, 9), (0.1, 0.0, 9)], True) == ["inconclusive", "supported"]
    assert claims.outcomes([], True) == []


def test_many_points_are_judged_together() -> None:
    """Holm by hand: of four, the smallest p-value has to be below 0.0125, then 0.0167, 0.025, 0.05; the first miss ends it."""
    z = {0.01: 2.5758, 0.012: 2.5121, 0.015: 2.4324, 0.02: 2.3263, 0.026: 2.2262, 0.04: 2.0537}
    for values, counting in (
        ([0.04, 0.02, 0.015, 0.012], 4),
        ([0.04, 0.026, 0.015, 0.012], 2),  # 0.04 is below 0.05, but 0.026 is not below 0.025
        ([0.015, 0.015, 0.015, 0.015], 0),
        ([0.01, 0.04, 0.04, 0.04], 1),
    ):
        found = claims.outcomes([(2 * z[p], 2.0, math.inf) for p in values], True)
        assert found.count("supported") == counting and found.count("inconclusive") == 4 - counting
        assert [claims.p_value(2 * z[p], 2.0, math.inf) for p in values] == pytest.approx(values, rel=1e-3)


def rows(**changes: Any) -> list[Any]:
    common = {"budget": "short", "epochs": 2.5, **changes}
    records = [
        *(made("alpha", seed, 0, correct=900 + seed, point={"target": 8}, **common) for seed in (0, 1, 2)),
        made("alpha", 0, 1, correct=700, point={"target": 12.0}, **common),
        *(made("beta", seed, 0, correct=800, point={"target": 8.0}, **common) for seed in (0, 1, 2)),
        made("beta", 0, 1, correct=800, point={"target": 12.0}, **common),
        made("beta", 0, 2, correct=800, point={"sparsity": 0.5}, **common),
    ]
    return aggregate(records)


def judged(monkeypatch: pytest.MonkeyPatch, claim: Claim, table: list[Any], tasks: set[str]) -> list[claimed.Judged]:
    monkeypatch.setattr(methods, "names", lambda: ["alpha", "gone"])
    monkeypatch.setattr(described, "card", lambda key: None if key == "gone" else object())
    monkeypatch.setattr(claims, "of", lambda key: claims.Claims(claim=[claim]))
    return list(claimed.judged(table, tasks, Path("no values were kept here")))


OBSERVATION = """
[[observation]]
text = "most words are shared"
source = "abstract"
task = "digits"
budget = "short"
of = { method = "alpha" }
note = "shared"
above = 0.5
"""


def test_an_observation_holds_where_every_seed_is_above(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "claims.toml").write_text(OBSERVATION)
    known = claims.read(tmp_path / "claims.toml")
    monkeypatch.setattr(methods, "names", lambda: ["alpha"])
    monkeypatch.setattr(described, "card", lambda key: object())
    monkeypatch.setattr(claims, "of", lambda key: known)
    common: dict[str, Any] = {"budget": "short", "epochs": 2.5}
    values = {0: [0.9, 0.7], 1: [0.9, 0.5]}
    records = [
        made("alpha", seed, index, notes={"shared": value}, **common)
        for index, over_seeds in values.items()
        for seed, value in enumerate(over_seeds)
    ]
    records.append(made("alpha", 0, 2, **common))  # without the note
    found = list(claimed.observed(aggregate(records), {"digits"}))
    assert [(o.outcome, o.note.mean, o.note.low) for o in found] == [
        ("supported", pytest.approx(0.8), 0.7),
        ("not supported here", pytest.approx(0.7), 0.5),
    ]
    assert claimed.grouped(found)[0][2] == [("supported", 1), ("not supported here", 1)]
    assert not list(claimed.observed(aggregate(records), {"cifar10"}))


def test_points_meet_where_both_have_the_label(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "claims.toml").write_text(FILE)
    (claim,) = claims.read(tmp_path / "claims.toml").claim
    found = judged(monkeypatch, claim, rows(), {"digits"})
    assert [(j.network, j.place, j.outcome) for j in found] == [
        ("net", "target 8", "supported"),
        ("net", "target 12", "not supported here"),
    ]
    assert found[0].difference == pytest.approx(10.1)
    ((first, points, tally),) = claimed.grouped(found)
    assert first is found[0] and points == found and tally == [("supported", 1), ("not supported here", 1)]
    assert not judged(monkeypatch, claim, rows(), {"cifar10"})
    assert not judged(monkeypatch, claim, rows(budget="post-training"), {"digits"})
    other = Claim(
        **{
            **{f: getattr(claim, f) for f in claim.__struct_fields__},
            "worse": Side(method="alpha", config={"mode": "x"}),
        }
    )
    assert not judged(monkeypatch, other, rows(), {"digits"})


def test_rows_of_other_epochs_do_not_meet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Wrong code that this finds: one side of an earlier protocol, with 2.5 epochs at the same budget, and one of today's."""
    (tmp_path / "claims.toml").write_text(FILE)
    (claim,) = claims.read(tmp_path / "claims.toml").claim
    one, other = rows(epochs=1.0), rows()
    mixed = [row for row in one if row.first.method == "alpha"] + [row for row in other if row.first.method == "beta"]
    assert not judged(monkeypatch, claim, mixed, {"digits"})
    alike = [row for row in one if row.first.method == "beta" and row.first.index == 0]
    found = judged(monkeypatch, claim, [*mixed, *alike], {"digits"})
    assert [j.place for j in found] == ["target 8"]


def test_curves_meet_at_equal_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Between 1,000 bytes at 80 % and 4,000 at 90 %, a curve gives 85 % for 2,000 bytes; outside it gives nothing."""
    (tmp_path / "claims.toml").write_text(
        FILE.replace('"target"', '"bytes"').replace(', config = { mode = "plain" }', "")
    )
    (claim,) = claims.read(tmp_path / "claims.toml").claim
    common: dict[str, Any] = {"budget": "short", "epochs": 2.5}
    sizes = {"alpha": [(2000, 900), (500, 700), (9000, 990)], "beta": [(1000, 800), (4000, 900)]}
    records = [
        made(method, 0, index, file_bytes=size, correct=correct, **common)
        for method, points in sizes.items()
        for index, (size, correct) in enumerate(points)
    ]
    (found,) = judged(monkeypatch, claim, aggregate(records), {"digits"})
    assert (found.place, found.better.size, found.worse.size) == ("equal bytes", 2000, 2000)
    assert found.worse.score == pytest.approx(85.0) and found.difference == pytest.approx(5.0)


def test_pruning_can_be_counted_by_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """4,000 and 1,000 values that are not zero are 16,000 and 4,000 bytes, or 1,250 more with a bit for each of 10,000."""
    common: dict[str, Any] = {"budget": "short", "epochs": 2.5}
    counts = [Counted(elements=10_000, nonzero=nonzero, macs=1) for nonzero in (4000, 1000)]
    beta = [made("beta", 0, i, counted=c, correct=900 - 100 * i, **common) for i, c in enumerate(counts)]
    for counted, size in (("values", 8000), ("values and mask", 8000)):
        claim = Claim(
            text="t",
            source="s",
            task="digits",
            budget="short",
            at="bytes",
            better=Side(method="alpha"),
            worse=Side(method="beta", counted=counted),  # type: ignore[arg-type]
        )
        records = [made("alpha", file_bytes=size, correct=950, **common), *beta]
        (found,) = judged(monkeypatch, claim, aggregate(records), {"digits"})
        low, high = (4000, 16000) if counted == "values" else (5250, 17250)
        share = math.log(size / low) / math.log(high / low)
        assert found.worse.score == pytest.approx(80 + 10 * share)
        assert found.place == f"equal bytes, counting {counted} of beta"


def test_of_several_configurations_the_one_nearest_to_the_default_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(described, "changes", lambda known: {k: v for k, v in known.config.items() if v != 3})
    far, near = ({"mode": "plain", "steps": steps} for steps in (4, 3))
    table = aggregate([made(config=config, point={"target": 8}, budget="short", epochs=2.5) for config in (far, near)])
    claim = Claim(
        text="t",
        source="s",
        task="digits",
        budget="short",
        at="target",
        better=Side(method="alpha"),
        worse=Side(method="alpha"),
    )
    assert [row.first.config["steps"] for row in claimed._fitting(claim.better, claim, table, claim.at)] == [3]
