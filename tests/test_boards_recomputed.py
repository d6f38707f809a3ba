"""Ranks, places on curves and answers of the page of CIFAR-10, computed again from the files of the results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import yaml
from recomputed import RESULTS, SUITE, Place, places, spread

import methods
from benchmarks import records as recorded
from benchmarks.records.rows import aggregate, references
from benchmarks.report import answers, boards, cells, envelopes, series
from benchmarks.report.envelopes import Envelope

ONE = 1.0  # point below the reference


@pytest.fixture(scope="module")
def known() -> dict[str, Place]:
    """By the id of the first seed's record."""
    return {place.first["id"]: place for place in places()}


def front(own: list[Place]) -> list[Place]:
    """The points that no other one beats in bytes and validation score, and of equal ones the first."""

    def score(place: Place) -> float:
        return float(np.mean([one["validation"]["total"] / one["validation"]["items"] for one in place.files]))

    def beats(a: Place, b: Place) -> bool:
        more = (-a.size("file"), score(a)), (-b.size("file"), score(b))
        return (more[0] != more[1] or a.first["id"] < b.first["id"]) and all(x >= y for x, y in zip(*more, strict=True))

    return [place for place in own if not any(beats(other, place) for other in own)]


class Curve:
    """A method's points in the order of their bytes, with what lies between them; level up to the largest of `every`."""

    def __init__(self, own: list[Place], every: list[Place]) -> None:
        self.own = sorted(own, key=lambda place: place.size("file"))
        self.largest = max(place.size("file") for place in every)
        self.sizes = np.array([place.size("file") for place in self.own])
        self.scores = np.array([place.value for place in self.own])

    def weights(self, size: float) -> list[tuple[float, Place]]:
        """The shares of the two points around a size that is on the curve."""
        at = min(max(int(np.searchsorted(self.sizes, size)), 1), len(self.own) - 1)
        low, high = self.own[at - 1], self.own[at]
        share = float(np.interp(np.log(size), np.log(self.sizes[at - 1 : at + 1]), [0, 1]))
        return [(1 - share, low), (share, high)]

    def has(self, size: float) -> bool:
        return bool(self.sizes[0] <= size <= self.largest)

    def smallest(self, score: float) -> tuple[float, bool] | None:
        """The smallest size with at least this score, and whether the curve ends there."""
        good = np.flatnonzero(self.scores >= score)
        if not len(good):
            return None
        at = int(good[0])
        if at == 0:
            return float(self.sizes[0]), True
        return float(np.exp(np.interp(score, self.scores[at - 1 : at + 1], np.log(self.sizes[at - 1 : at + 1])))), False


def is_better(a: list[tuple[float, Place]], b: list[tuple[float, Place]]) -> bool:
    """Whether mixture a is better than mixture b beyond chance."""
    gap = sum(w * p.value for w, p in a) - sum(w * p.value for w, p in b)
    every = [*a, *b]
    if all(p.bits is not None and p.of is not None and p.of == every[0][1].of for _, p in every):
        each = sum(w * p.bits for w, p in a) - sum(w * p.bits for w, p in b)
        error = np.sqrt(each.var(ddof=1) / len(each) + sum(w * w * p.between for w, p in every))
        return bool(gap > max(spread(is_paired=True).ppf(0.975) * error, 1e-9))
    errors = [max(p.error for _, p in side) for side in (a, b)]
    return bool(gap > spread(is_paired=False).ppf(0.975) * np.hypot(*errors))


def first_of(method: str, budget: str) -> dict[str, Any]:
    """All settings of the configuration that params.yaml lists first for a method."""
    known = yaml.safe_load((RESULTS.parent / "params.yaml").read_text(encoding="utf-8"))
    own, shared = (part.get(budget, {}) for part in (known[SUITE].get("configs", {}), known["configs"]))
    changed = (own.get(method) or shared.get(method) or [{}])[0]
    settings = json.loads(json.dumps(dataclasses.asdict(methods.get(method).Config())))
    return {**settings, **{name: value for name, value in changed.items() if name != "name"}}


def curves(known: dict[str, Place]) -> list[Envelope]:
    records = recorded.load(RESULTS, SUITE)
    rows = aggregate(records)
    found = list(envelopes.envelopes(list(series.series(rows)), cells.first_configs(SUITE, records)))
    for one in found:
        every = [known[row.first.id] for line in (one.line, *one.others) for row in line.rows]
        ids = {row.first.id for row in one.rows}
        if one.chosen == "validation":
            assert ids == {place.first["id"] for place in front(every)}
        else:
            listed = first_of(one.line.method, one.line.identity[1])
            for place in (place for place in every if place.first["id"] in ids):
                config = place.first["config"]  # an older record has other settings than today's code, too
                assert all(listed[name] == config[name] for name in listed.keys() & config.keys())
            assert (one.chosen == "only") == (not one.others)
            assert not one.others or any(file.get("validation") is None for place in every for file in place.files)
    return found


def place_of(one: Envelope) -> tuple[str, str]:
    return one.line.network, one.line.identity[1]


def measured(found: list[Envelope], known: dict[str, Place]) -> list[Curve]:
    def among(one: Envelope) -> list[Place]:
        lines = (one.line, *one.others) if one.chosen == "validation" else (one.line,)
        return [known[row.first.id] for line in lines for row in line.rows]

    return [Curve([known[row.first.id] for row in one.rows], among(one)) for one in found]


def told_and_measured(known: dict[str, Place]) -> Iterator[tuple[boards.Board, dict[int, Curve]]]:
    """Each board of the page, with the curves on it by their number."""
    found = curves(known)
    own, rows = measured(found, known), aggregate(recorded.load(RESULTS, SUITE))
    for board in boards.boards(RESULTS, found, references(rows)):
        yield board, {i: own[i] for i, one in enumerate(found) if place_of(one) == (board.network, board.budget)}


def at(curve: Curve, size: float) -> list[tuple[float, Place]]:
    """The mixture at a size; the smallest file where all are larger, the largest one where all are smaller."""
    if size <= curve.sizes[0]:
        return [(1.0, curve.own[0])]
    return [(1.0, curve.own[-1])] if size >= curve.sizes[-1] else curve.weights(size)


def test_every_rank_is_the_same_from_the_files_alone(known: dict[str, Place]) -> None:
    counted = 0
    for board, own in told_and_measured(known):
        whole = next(iter(own.values())).own[0].first["rate"]["uncompressed_bytes"]
        for ratio, told in board.rates.items():
            places = {i: at(curve, whole / ratio) for i, curve in own.items() if curve.has(whole / ratio)}
            assert {one.envelope for one in told} == set(places)
            assert [one.place.score for one in told] == sorted((one.place.score for one in told), reverse=True)
            for one in told:
                mine = places[one.envelope]
                assert one.place.score == pytest.approx(sum(w * p.value for w, p in mine), abs=1e-9)
                assert set(one.better) == {
                    i for i, other in places.items() if i != one.envelope and is_better(other, mine)
                }
                counted += 1
    assert counted > 200


def order(curves: dict[int, Curve], score: float) -> Iterator[tuple[int, float, set[int]]]:
    """(Curve, its smallest size at a score, the curves that are better), the smallest size first."""
    sizes = {i: place for i, curve in curves.items() if (place := curve.smallest(score)) is not None}
    for i, (size, ends) in sorted(sizes.items(), key=lambda one: one[1]):
        smaller = [j for j, (other, _) in sizes.items() if other < size]
        if ends:
            yield i, size, set(smaller)
        else:
            yield i, size, {j for j in smaller if is_better(at(curves[j], sizes[j][0]), at(curves[i], sizes[j][0]))}


def test_every_smallest_file_is_the_same_from_the_files_alone(known: dict[str, Place]) -> None:
    counted = 0
    for board, own in told_and_measured(known):
        for lost in board.losses:
            wanted = list(order(own, lost.score))
            assert [one.envelope for one in lost.methods] == [i for i, _, _ in wanted]
            for one, (_, size, better) in zip(lost.methods, wanted, strict=True):
                assert one.place.bytes == pytest.approx(size) and set(one.better) == better
                counted += 1
    assert counted > 50


def test_the_answers_are_the_heads_of_these_lists(known: dict[str, Place]) -> None:
    """Here every point counts as current, so that old and new ones are tested."""
    records = recorded.load(RESULTS, SUITE)
    rows = aggregate(records)
    whole = references(rows)
    lines = answers.taking_part(series.series(rows), whole, {record.id: True for record in records})
    found = list(envelopes.envelopes(list(lines), cells.first_configs(SUITE, records)))
    names, own, told = envelopes.labels(found), measured(found, known), list(answers.answers(RESULTS, found, whole))
    assert len(told) > 2
    for answer in told:
        lines = [one.line for one in found if one.line.network == answer.network]
        (budget,) = {line.identity[1] for line in lines if line.budget.startswith(answer.budget)}
        here = {i: own[i] for i, one in enumerate(found) if place_of(one) == (answer.network, budget)}
        score = known[whole[answer.network].first.id].value - ONE
        wanted = list(order(here, score))
        smallest = answer.smallest
        assert smallest is not None and not any(found[i].line.method == "reference" for i in here)
        assert smallest.methods == tuple(names[i] for i, _, better in wanted if not better)
        assert smallest.bytes == pytest.approx(wanted[0][1])
        behind = [(i, size) for i, size, better in wanted if better]
        if behind:
            assert smallest.next == names[behind[0][0]] and smallest.times == pytest.approx(behind[0][1] / wanted[0][1])
        else:
            assert (smallest.next, smallest.times) == (None, None)
        size = known[whole[answer.network].first.id].first["rate"]["uncompressed_bytes"]
        assert smallest.ratio == pytest.approx(size / wanted[0][1]) and answer.within == "1 point"
        assert smallest.ends == own[wanted[0][0]].smallest(score)[1]
        for ratio, best in answer.best.items():
            on = {i: at(curve, size / ratio) for i, curve in here.items() if curve.has(size / ratio)}
            scores = {i: sum(w * p.value for w, p in mixture) for i, mixture in on.items()}
            order_here = sorted(on, key=lambda i: -scores[i])
            beaten = [i for i in order_here if any(is_better(on[j], on[i]) for j in on if j != i)]
            ahead = [i for i in order_here if i not in beaten]
            assert best is not None and best.methods == tuple(names[i] for i in ahead)
            assert best.score == pytest.approx(scores[ahead[0]])
            assert best.next == (names[beaten[0]] if beaten else None)
            assert best.next_score == (pytest.approx(scores[beaten[0]]) if beaten else None)
