"""Claims on networks whose single items were kept, against sums by hand. Every number here is invented."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from invented import PSNR, averaged, invent_task, made, scored_curve, store
from scipy.stats import t, ttest_rel

from benchmarks.papers import claimed, claims
from benchmarks.papers.claims import Claim, Side
from benchmarks.records import Record, described, items, paired
from benchmarks.records.rows import aggregate
from benchmarks.records.schema import ITEMS

N = 1000
Z95, T95 = 1.959963984540054, float(t.ppf(0.975, N - 1))
RANDOM = np.random.default_rng(0)
Bits = npt.NDArray[np.bool_]


def near(bits: Bits, flips: int) -> Bits:
    """The same items right, but for so many."""
    changed = bits.copy()
    changed[RANDOM.choice(N, flips, replace=False)] ^= True
    return changed


def kept(results: Path, method: str, bits: Bits, of: str = "a", **changes: Any) -> Record:
    """A record on disk whose items were right where `bits` are."""
    known = made(method, correct=int(bits.sum()), **changes)
    data = {**known.provenance.data, ITEMS: f"sha256:{of * 64}"}
    known = msgspec.structs.replace(known, provenance=msgspec.structs.replace(known.provenance, data=data))
    store(results, [known])
    top1 = described.metric("digits", "top-1")
    items.path_beside(results / f"{known.id}.json").write_bytes(items.pack(top1, torch.from_numpy(bits)))
    return known


def judged(patch: pytest.MonkeyPatch, results: Path, records: list[Record], at: str = "target") -> claimed.Judged:
    sides = {"better": Side(method="alpha"), "worse": Side(method="beta")}
    claim = Claim(text="t", source="s", task="digits", budget="post-training", at=at, **sides)
    patch.setattr(claimed, "_known", lambda: [("alpha", claims.Claims(claim=[claim]))])
    (found,) = claimed.judged(aggregate(records), {"digits"}, results)
    return found


def error(*values: npt.NDArray[Any]) -> float:
    """The standard error, in per cent, of a mean of differences over items."""
    difference = values[0].astype(float) - values[1].astype(float)
    return 100 * float(difference.std(ddof=1)) / math.sqrt(N)


def test_items_are_compared_with_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks that differ in few items: the paired interval is far narrower, and the outcome another one."""
    theirs = RANDOM.random(N) < 0.85
    ours = theirs.copy()
    ours[np.flatnonzero(~theirs)[:12]] = True
    point = {"point": {"target": 8}}
    records = [kept(tmp_path, "alpha", ours, **point), kept(tmp_path, "beta", theirs, **point)]
    found = judged(monkeypatch, tmp_path, records)
    assert found.is_paired and found.difference == pytest.approx(1.2) and found.outcome == "supported"
    assert found.margin == pytest.approx(T95 * error(ours, theirs))
    for record in records:
        items.path_beside(tmp_path / f"{record.id}.json").unlink()
        found = judged(monkeypatch, tmp_path, records)
        assert not found.is_paired and found.outcome == "inconclusive" and found.difference == pytest.approx(1.2)
        shares = [float(bits.mean()) for bits in (ours, theirs)]
        both = math.hypot(*(100 * math.sqrt(p * (1 - p) / N) for p in shares))
        assert found.margin == pytest.approx(Z95 * both)


def test_other_items_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bits, point = RANDOM.random(N) < 0.85, {"point": {"target": 8}}
    records = [kept(tmp_path, method, bits, of, **point) for method, of in (("alpha", "a"), ("beta", "b"))]
    assert not judged(monkeypatch, tmp_path, records).is_paired


@pytest.mark.parametrize("without", [None, 0, 1])
def test_a_point_between_two_is_compared_item_by_item(
    without: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,000 bytes are a quarter of the way from 1,000 to 16,000 in log bytes: each item has that mixture of two values."""
    low = RANDOM.random(N) < 0.8
    high, ours = near(low, 100), near(low, 60)
    curve = [kept(tmp_path, "beta", b, index=i, file_bytes=s) for i, (b, s) in enumerate(((high, 16000), (low, 1000)))]
    records = [kept(tmp_path, "alpha", ours, file_bytes=2000), *curve]
    if without is not None:
        items.path_beside(tmp_path / f"{curve[without].id}.json").unlink()
    found = judged(monkeypatch, tmp_path, records, "bytes")
    mixture = 0.75 * low + 0.25 * high
    assert found.is_paired == (without is None)
    assert found.difference == pytest.approx(100 * (ours.mean() - mixture.mean()))
    assert (found.margin == pytest.approx(T95 * error(ours, mixture))) == (without is None)


def test_the_variance_between_seeds_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, point = RANDOM.random(N) < 0.85, {"point": {"target": 8}}
    seeds = [near(base, flips) for flips in (10, 40, 70)]
    records = [kept(tmp_path, "alpha", bits, seed=seed, **point) for seed, bits in enumerate(seeds)]
    found = judged(monkeypatch, tmp_path, [*records, kept(tmp_path, "beta", base, **point)])
    between = np.var([100 * bits.mean() for bits in seeds], ddof=1) / 3
    assert found.margin == pytest.approx(T95 * math.hypot(error(np.mean(seeds, axis=0), base), math.sqrt(between)))


def test_few_items_have_a_wide_interval() -> None:
    """Student's t: with 5 items, half of it is 2.78 standard errors, not 1.96. A single item has no error."""
    one, other = (
        paired.Side(np.array(values), 0.0, "a") for values in ([3.0, 1.0, 4.0, 1.5, 5.0], [2.5, 0.9, 3.0, 1.4, 3.2])
    )
    gap, error = paired.difference(one, other)
    assert 1.96 * error < gap < t.ppf(0.975, 4) * error
    assert not paired.significant([one, other]).any() and paired.critical(4) == pytest.approx(t.ppf(0.975, 4))
    assert claims.p_value(gap, error, 4) == pytest.approx(ttest_rel(one.values, other.values).pvalue)
    outcomes = [claims.outcomes([(gap, error, freedom)], True)[0] for freedom in (4, 1e9)]
    assert outcomes == ["inconclusive", "supported"]
    single = [
        paired.Side(side.values[:1], 0.0, "a") for side in (one, other)
    ]  # the item itself is what the task is about
    assert paired.significant(single).tolist() == [[False, True], [True, False]] and paired.critical(0) == 0
    assert claims.outcomes([(0.5, 0.0, 0), (0.0, 0.0, 0)], True) == ["supported", "inconclusive"]


def test_a_mean_of_few_items_is_compared_by_students_t(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the values of items were not kept."""
    invent_task(monkeypatch, "pictures", PSNR)
    known = averaged(PSNR, [30.0, 31.0, 29.0])
    (row,) = aggregate(scored_curve("alpha", "pictures", [2000], [{"psnr": known}]))
    assert paired.apart(row) == 2
    assert paired.apart(aggregate([made()])[0]) == math.inf  # the error of a proportion follows from its mean


def test_the_number_of_tests_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bits, point = RANDOM.random(N) < 0.85, {"point": {"target": 8}}
    records = [kept(tmp_path, "alpha", bits | True, **point), kept(tmp_path, "beta", bits, **point)]
    found = judged(monkeypatch, tmp_path, records)
    wide = replace(found, margin=2 * found.difference, is_paired=False, outcome="inconclusive")
    narrow = replace(found, outcome="inconclusive")  # its own interval excludes zero, but not among so many
    told = claimed.tests([found, wide, narrow])
    assert (told.made, told.paired, told.outside, told.counting) == (3, 2, 2, 1)
    assert (told.by_chance, told.level) == (pytest.approx(0.15), 0.05)
