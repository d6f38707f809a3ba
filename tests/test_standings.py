"""Curves, ranks and answers against a recomputation from the records and the values of single items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from invented import counted, curve, made, reference, store
from scipy import stats

from benchmarks.records import Record, paired
from benchmarks.records.rows import aggregate, references
from benchmarks.records.schema import ITEMS
from benchmarks.report import answers, cells, envelopes, series
from benchmarks.report.boards import Board, boards
from benchmarks.report.envelopes import Envelope

N = 1000


def board(folder: Path, records: list[Record]) -> tuple[Board, list[Envelope]]:
    """The only board of records of one network at one budget."""
    rows = aggregate(records)
    lines = list(series.series(rows))
    curves = list(envelopes.envelopes(lines, cells.first_configs("invented", records)))
    (found,) = boards(folder, curves, references(rows))
    return found, curves


def scored(folder: Path, record: Record, right: np.ndarray, of: str | None = "sha256:" + "0" * 64) -> Record:
    """The record with these items (N,), stored beside it; `of` is their hash."""
    data = {**record.provenance.data, **({ITEMS: of} if of else {})}
    known = made(
        record.method,
        seed=record.seed,
        index=record.index,
        file_bytes=record.rate.file_bytes,
        correct=int(right.sum()),
        provenance=type(record.provenance)(
            **{**{f: getattr(record.provenance, f) for f in record.provenance.__struct_fields__}, "data": data}
        ),
    )
    store(folder, [known])
    (folder / f"{known.id}.items").write_bytes(np.packbits(right).tobytes())
    return known


def test_a_small_difference_on_the_same_items_is_found(tmp_path: Path) -> None:
    """25 of 1,000 items differ, all in one direction: the intervals overlap, the paired difference excludes zero."""
    first = np.arange(N) < 900
    second = first.copy()
    second[:25] = False
    both = [
        scored(tmp_path, made(name, file_bytes=10_000), right) for name, right in (("alpha", first), ("beta", second))
    ]
    assert both[0].quality.low < both[1].quality.high  # as two independent samples they would not differ
    found, curves = board(tmp_path, [*both, reference()])
    ranked = {curves[one.envelope].line.method: one for one in found.rates[4]}
    assert [curves[other].line.method for other in ranked["beta"].better] == ["alpha"]
    assert ranked["alpha"].better == ()
    assert stats.binomtest(0, 25).pvalue < 0.05  # McNemar's exact test agrees


def test_without_items_scores_are_independent(tmp_path: Path) -> None:
    records = [made("alpha", file_bytes=10_000, correct=900), made("beta", file_bytes=10_000, correct=875)]
    found, _ = board(tmp_path, [*records, reference()])
    assert all(one.better == () for one in found.rates[4])


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_those_of_paired_differences(tmp_path: Path, seed: int) -> None:
    """Between two points of a curve, with two seeds each; recomputed from the bits alone."""
    random = np.random.default_rng(seed)
    easy = random.random(N)
    chance = {"alpha": (0.93, 0.85), "beta": (0.93, 0.84), "gamma": (0.9, 0.8), "delta": (0.92, 0.88)}
    sizes, bits, records = (12_000, 8000), {}, []
    for name, levels in chance.items():
        for index, (size, level) in enumerate(zip(sizes, levels, strict=True)):
            for run in (0, 1):
                right = easy + 0.05 * random.standard_normal(N) < level
                bits[name, index, run] = right
                records.append(scored(tmp_path, made(name, seed=run, index=index, file_bytes=size), right))
    found, curves = board(tmp_path, [*records, reference()])
    share = np.log(10_000 / 8000) / np.log(12_000 / 8000)

    def mixed(name: str) -> tuple[np.ndarray, float]:
        high, low = (np.stack([bits[name, index, run] for run in (0, 1)]).astype(float) for index in (0, 1))
        between = [own.mean(axis=1).var(ddof=1) / 2 for own in (high, low)]
        values = share * high.mean(axis=0) + (1 - share) * low.mean(axis=0)
        return values, share**2 * between[0] + (1 - share) ** 2 * between[1]

    for one in found.rates[4]:
        name = curves[one.envelope].line.method
        if name == "plain":
            continue
        mine, own = mixed(name)
        assert one.place.score == pytest.approx(100 * mine.mean())
        better = set()
        for other in chance:
            theirs, spread = mixed(other)
            error = np.sqrt((theirs - mine).var(ddof=1) / N + own + spread)
            if (theirs - mine).mean() > stats.norm.ppf(0.975) * error:
                better.add(other)
        assert {curves[number].line.method for number in one.better} == better


def test_items_of_other_splits_are_not_paired(tmp_path: Path) -> None:
    """The same bits as in the first test, but of other items, or of items that are not known."""
    first = np.arange(N) < 900
    second = first.copy()
    second[:25] = False
    for number, other in enumerate(("sha256:" + "1" * 64, None)):
        folder = tmp_path / str(number)
        one = scored(folder, made("alpha", file_bytes=10_000), first)
        two = scored(folder, made("beta", file_bytes=10_000), second, other)
        found, _ = board(folder, [one, two, reference()])
        assert all(entry.better == () for entry in found.rates[4]), other


def test_mixtures_of_equal_networks_are_equal() -> None:
    """Sums of products differ in the last bits: no share between two equal rows makes a difference."""
    values = 100.0 * (np.random.default_rng(0).random(N) < 0.9)
    other = 100.0 * (np.random.default_rng(1).random(N) < 0.8)
    for share in np.linspace(0, 1, 101):
        low, high = (paired.Side(own, 0.0, "x") for own in (values, other))
        turned = paired.mixed(high, low, 1 - share)
        assert paired.difference(paired.mixed(low, high, share), turned) == (0.0, 0.0)


def test_a_curve_is_not_known_outside_its_points(tmp_path: Path) -> None:
    records = [*curve("alpha", [12_000, 9000], [900, 890]), *curve("beta", [8000, 5000], [910, 900]), reference()]
    found, curves = board(tmp_path, records)
    here = {ratio: [curves[one.envelope].line.method for one in at] for ratio, at in found.rates.items()}
    assert (here[4], here[6], here[8], here[10]) == (["alpha"], ["beta"], ["beta"], [])


def test_the_first_ratio_has_the_most_methods_near_the_reference(tmp_path: Path) -> None:
    """At 20 times all three have a curve, but two have collapsed; at 10 times two are near the reference."""
    records = [
        *curve("alpha", [4400, 1900], [930, 900]),
        *curve("beta", [4400, 1900], [930, 500]),
        *curve("gamma", [2100, 1900], [150, 100]),
        reference(),
    ]
    found, _ = board(tmp_path, records)
    assert found.start == 10


def test_validation_chooses_the_points_of_a_curve(tmp_path: Path) -> None:
    """A point that another one beats in bytes and validation score is left out, whatever its test score is."""

    def at(steps: int, index: int, size: int, test: int, right: int | None) -> Record:
        score = None if right is None else counted(right)
        return made(index=index, config={"steps": steps}, file_bytes=size, correct=test, validation=score)

    known = [at(3, 0, 9000, 900, 910), at(3, 1, 5000, 890, 800), at(4, 0, 8000, 700, 920), at(4, 1, 4000, 600, 810)]
    _, (alpha, _) = board(tmp_path, [*known, reference()])
    assert (alpha.chosen, [row.file_bytes.mean for row in alpha.rows]) == ("validation", [8000, 4000])
    _, (alpha, _) = board(tmp_path, [*known[:3], at(4, 1, 4000, 600, None), reference()])
    assert (alpha.chosen, [row.file_bytes.mean for row in alpha.rows]) == ("first", [9000, 5000])
    assert len(alpha.others) == 1
    _, (alpha, _) = board(tmp_path, [*known[:2], reference()])  # one configuration: nothing is chosen
    assert (alpha.chosen, [row.file_bytes.mean for row in alpha.rows]) == ("only", [9000, 5000])


def test_a_curve_stays_level_up_to_the_largest_file(tmp_path: Path) -> None:
    """At 10,000 bytes, a user of the method takes the file of 8,000, which is as good on validation as that of 16,000."""
    sizes = ((3, 0, 16_000, 930), (3, 1, 12_000, 925), (4, 0, 8000, 900), (4, 1, 5000, 850))
    records = [
        made(
            index=index,
            config={"steps": steps},
            file_bytes=size,
            correct=right,
            validation=counted(min(right + 70, 970)),
        )
        for steps, index, size, right in sizes
    ]
    beta = [made("beta", index=i, file_bytes=size, correct=890) for i, size in enumerate((15_000, 9000))]
    found, curves = board(tmp_path, [*records, *beta, reference()])
    places = {
        ratio: {curves[one.envelope].line.method: one.place for one in found.rates[ratio]} for ratio in (2, 4, 6, 10)
    }
    assert set(places[2]) == set(places[10]) == set()  # 20,000 and 4,000 bytes
    assert (places[4]["alpha"].score, places[4]["alpha"].bytes) == (90, 8000)
    assert 85 < places[6]["alpha"].score < 90
    (answer,) = asked(tmp_path, [*records, *curve("beta", [15_000, 3000], [500, 400]), reference()])
    assert answer.best[10] is not None and answer.best[10].methods == ("beta",)


def asked(folder: Path, records: list[Record], stale: set[str] | None = None) -> list[answers.Answer]:
    """The answers of records; `stale` holds the ids of those that were measured by other code."""
    rows = aggregate(records)
    known, first = references(rows), cells.first_configs("invented", records)
    lines = answers.taking_part(series.series(rows), known, {r.id: r.id not in (stale or set()) for r in records})
    return list(answers.answers(folder, list(envelopes.envelopes(list(lines), first)), known))


def test_the_answers_are_those_of_the_records(tmp_path: Path) -> None:
    """The smallest file within one point of 95 %, and the best at 10 times, by interpolation over log bytes.

    The reference takes no part, nor does a point of other code: what is left of its curve does.
    """
    known = {"alpha": ([9000, 5000, 3000], [948, 930, 900]), "beta": ([9000, 4200, 3500], [945, 935, 200])}
    records = [*curve("alpha", *known["alpha"]), *curve("beta", *known["beta"]), reference()]
    (answer,) = asked(tmp_path, records)
    sizes = {
        name: float(np.exp(np.interp(940, right[::-1], np.log(size[::-1])))) for name, (size, right) in known.items()
    }
    first, second = sorted(sizes, key=sizes.__getitem__)
    smallest = answer.smallest
    assert smallest is not None and smallest.methods == (first, second)  # 1,000 items do not tell them apart
    assert (smallest.next, smallest.times, smallest.next_ends) == (None, None, False)
    assert smallest.bytes == pytest.approx(sizes[first]) and smallest.ratio == pytest.approx(40_000 / sizes[first])
    best = answer.best[10]
    assert best is not None and (best.methods, best.next) == (("alpha",), "beta")
    scores = {
        name: np.interp(np.log(4000), np.log(size[::-1]), right[::-1]) / 10 for name, (size, right) in known.items()
    }
    assert (best.score, best.next_score) == pytest.approx((scores["alpha"], scores["beta"]))
    assert answer.best[20] is None and answer.budget == "post-training"
    own = [record.id for record in records if record.method == first]
    (without,) = asked(tmp_path, records, set(own))
    assert without.smallest is not None and without.smallest.methods == (second,)
    largest, middle, _ = known[first][0]
    (partly,) = asked(tmp_path, records, {own[1]})  # the curve is drawn between the points that are left
    high, _, low = known[first][1]
    size = float(np.exp(np.interp(940, [low, high], np.log([known[first][0][2], largest]))))
    assert partly.smallest is not None and partly.smallest.bytes == pytest.approx(min(size, sizes[second]))
    assert size != pytest.approx(sizes[first]) and middle not in (size, largest)


@pytest.mark.parametrize("budget", ["short", "paper"])
def test_an_answer_with_training_names_what_is_ahead_without_it(tmp_path: Path, budget: str) -> None:
    """Wrong code that this finds: untrained methods that are behind, budgets that are met before the untrained one."""
    untrained = [*curve("alpha", [9000, 5000, 3000], [948, 930, 900]), reference()]
    behind, ahead = ([9000, 6000, 3000], [948, 930, 800]), ([9000, 2500, 1800], [948, 940, 910])
    for (sizes, right), named in ((behind, True), (ahead, False)):
        trained = [
            made("beta", index=i, budget=budget, epochs=1.0, file_bytes=size, correct=count)
            for i, (size, count) in enumerate(zip(sizes, right, strict=True))
        ]
        without, answer = sorted(asked(tmp_path, [*untrained, *trained]), key=lambda one: one.budget != "post-training")
        assert without.smaller is None and not without.better
        assert answer.smallest is not None and answer.smallest.methods == ("beta",)
        assert (answer.smaller is not None) == named
        assert (10 in answer.better) == named
        if named:
            assert answer.smaller == without.smallest and answer.better[10] == without.best[10]


@pytest.mark.parametrize("gap", [12, 2])
def test_a_smaller_file_is_one_that_the_items_tell_apart(tmp_path: Path, gap: int) -> None:
    """Both points of the other curve are right on `gap` items of 1,000 less, all in one direction.

    Wrong code that this finds: two scores taken as independent (12 of 1,000 would be a tie), any difference taken as one.
    """
    levels = {"alpha": (945, 925), "beta": (945 - gap, 925 - gap)}
    records = [
        scored(tmp_path, made(name, index=index, file_bytes=size), np.arange(N) < counts[index])
        for name, counts in levels.items()
        for index, size in enumerate((8000, 4000))
    ]
    found, curves = board(tmp_path, [*records, reference()])
    (lost,) = (one for one in found.losses if one.score == pytest.approx(93.0))
    here = {curves[one.envelope].line.method: {curves[n].line.method for n in one.better} for one in lost.methods}
    share = (930 - 925) / 20  # of the way from the smaller to the larger file, where alpha has 93 %
    mixed = [share * (np.arange(N) < high) + (1 - share) * (np.arange(N) < low) for high, low in levels.values()]
    told_apart = stats.ttest_rel(*mixed).pvalue < 0.05
    assert told_apart == (gap == 12)
    behind = {"alpha"} if told_apart else set()
    assert here == {
        "alpha": set(),
        "beta": behind,
        "plain": {"alpha", "beta"},
    }  # plain was not measured with fewer bytes
