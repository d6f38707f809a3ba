"""What the pages of CIFAR-10 and MNIST say about papers, computed again from the files alone: JSON, bits and TOML."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import pytest
from recomputed import RESULTS, SUITE, Place, places, spread

import methods
from benchmarks import records as recorded
from benchmarks import tasks
from benchmarks.fingerprint import ROOT
from benchmarks.papers import accounting, answers, claimed, scoreboard
from benchmarks.papers.verdicts import Verdict
from benchmarks.records.rows import aggregate, references


def tables(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((ROOT / "methods").glob(f"*/{name}")):
        yield path.parent.name, tomllib.loads(path.read_text("utf-8"))


def distance(known: dict[str, Any]) -> int:
    """The number of settings that are not the defaults."""
    defaults = json.loads(json.dumps(dataclasses.asdict(methods.get(known["method"]).Config())))
    return sum(known["config"].get(name, value) != value for name, value in defaults.items())


def side(known: list[Place], wanted: dict[str, Any], claim: dict[str, Any]) -> list[Place]:
    fits = [
        place
        for place in known
        if (place.first["method"], place.first["budget"]) == (wanted["method"], claim["budget"])
        and all(place.first["config"].get(name) == value for name, value in wanted.get("config", {}).items())
        and (claim["at"] == "bytes" or claim["at"] in place.first["point"])
    ]
    if not fits:
        return []
    nearest = min(fits, key=lambda place: distance(place.first)).first["config_hash"]
    return [place for place in fits if place.first["config_hash"] == nearest]


def pairs(
    claim: dict[str, Any], better: list[Place], worse: list[Place]
) -> Iterator[tuple[Place, list[tuple[float, Place]]]]:
    """Each point of the better side, with the shares of one or two points of the worse side, trained for as many epochs."""
    for a in better:
        others = [b for b in worse if all(b.first[name] == a.first[name] for name in ("network", "epochs"))]
        if claim["at"] != "bytes":
            yield from (
                (a, [(1.0, b)]) for b in others if b.first["point"][claim["at"]] == a.first["point"][claim["at"]]
            )
            continue
        others.sort(key=lambda b: b.size(claim["worse"].get("counted", "file")))
        sizes = [b.size(claim["worse"].get("counted", "file")) for b in others]
        size = a.size(claim["better"].get("counted", "file"))
        at = int(np.searchsorted(sizes, size))
        if sizes and sizes[0] <= size <= sizes[-1]:
            at = max(at, 1)
            share = float(np.interp(np.log(size), np.log(sizes[at - 1 : at + 1]), [0.0, 1.0]))
            yield a, [(1 - share, others[at - 1]), (share, others[at])]


def difference(a: Place, mixture: list[tuple[float, Place]]) -> tuple[float, float, bool]:
    gap = a.value - sum(share * b.value for share, b in mixture)
    if all(b.bits is not None and b.of == a.of for _, b in mixture) and a.bits is not None:
        each = a.bits - sum(share * b.bits for share, b in mixture)
        between = a.between + sum(share**2 * b.between for share, b in mixture)
        return gap, float(np.sqrt(each.var(ddof=1) / len(each) + between)), True
    return gap, float(np.hypot(a.error, max(b.error for _, b in mixture))), False


def holm(values: list[float]) -> list[float]:
    """Adjusted p-values."""
    order = np.argsort(values)
    steps = np.maximum.accumulate([p * (len(values) - k) for k, p in enumerate(np.array(values)[order])])
    return [float(steps[np.flatnonzero(order == i)[0]]) for i in range(len(values))]


Claimed: TypeAlias = tuple[str, str, str, str, float, float, bool, str]


def claims_from_files(suite: str) -> list[Claimed]:
    known, wanted = places(suite), []
    for key, table in tables("claims.toml"):
        for claim in (claim for claim in table.get("claim", []) if claim["task"] == suite):
            met = list(pairs(claim, side(known, claim["better"], claim), side(known, claim["worse"], claim)))
            found = [difference(*pair) for pair in met]
            adjusted = holm([2 * float(spread(is_paired).sf(abs(gap) / error)) for gap, error, is_paired in found])
            for (a, _), (gap, error, is_paired), p in zip(met, found, adjusted, strict=True):
                outcome = "inconclusive" if p >= 0.05 else "supported" if gap > 0 else "not supported here"
                wanted.append((key, claim["text"], claim["budget"], a.first["network"], gap, error, is_paired, outcome))
    return wanted


def claims_as_told(suite: str) -> list[Claimed]:
    return [
        (
            j.method,
            j.claim.text,
            j.claim.budget,
            j.network,
            j.difference,
            j.margin / spread(j.is_paired).ppf(0.975),
            j.is_paired,
            j.outcome,
        )
        for j in claimed.judged(aggregate(recorded.load(RESULTS, suite)), {suite}, RESULTS)
    ]


def test_every_claim_is_the_same_from_the_files_alone() -> None:
    told, wanted = (
        [one for suite in (SUITE, "mnist") for one in of(suite)] for of in (claims_as_told, claims_from_files)
    )
    assert len(told) == len(wanted) > 200 and {one[6] for one in told} == {True, False}
    for ours, theirs in zip(sorted(told), sorted(wanted), strict=True):
        assert ours[:4] == theirs[:4] and ours[6:] == theirs[6:]
        assert ours[4:6] == pytest.approx(theirs[4:6], rel=1e-9, abs=1e-9)


def test_the_scoreboard_counts_the_rows_of_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting structures takes its time, and is compared with the papers' digits in other tests."""
    monkeypatch.setattr(accounting, "judged", lambda key, row: (None, Verdict("not counted")))
    rows = aggregate(recorded.load(RESULTS, SUITE))
    board = scoreboard.scoreboard(list(answers.comparisons(rows, references(rows), {SUITE})), [])
    for key, table in tables("reported.toml"):
        own = [row for row in table["row"] if row["task"] == SUITE and not row.get("context")]
        counted = [row for row in own if "last_digit" in row]
        apart = [row for row in own if row.get("comparable")]
        absent = [row for row in own if row not in counted + apart and row["network"] not in tasks.get(SUITE).NETWORKS]
        (line,) = (line for line in board.lines if line.method == key)
        assert line.measured[3] >= len(absent) and line.measured[4] == len(apart)
        assert sum(line.measured) == len(own) - len(counted) and line.counted == (0, 0, len(counted))
    replicated, total = board.total.measured[0] or "None", sum(board.total.measured)
    assert board.sentences.startswith(f"{replicated} of the {total} reported results")
