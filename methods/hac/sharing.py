"""At most k values for a set of weights, by four rules (Marinò et al. 2020, 2021 and the official code).

Each function gets the surviving weights (n,), fp64, and returns the rising values (at most k,) and the number of each weight's
value. Where there are no more than k distinct weights, these are the values.
"""

from __future__ import annotations

import itertools
from typing import Literal, TypeAlias

import numpy as np

from methods.hac.kernels import Array

Rule: TypeAlias = Literal["cws", "pws", "uq", "ecsq"]
Shared: TypeAlias = tuple[Array, Array]  # values, and the number of each weight's value
ITERATIONS = 30  # of ECSQ, at most
MOST_ROUNDS = 1000  # of k-means
FIRST_STEP, STEP, LAST_STEP = 1e-4, 5e-4, 1.0  # of the grid of UQ
PRICES = [mantissa * 10.0**power for power in range(-1, -14, -1) for mantissa in (5, 2, 1)]  # λ of ECSQ, falling
PARTS = 3  # initial intervals of ECSQ for each wanted value


def shared(rule: Rule, weights: Array, most: int, generator: np.random.Generator, zeros: int = 0) -> Shared:
    """(values, numbers) of `weights` by a rule; `zeros` pruned weights take part in the clustering of "cws"."""
    distinct, numbers = np.unique(weights, return_inverse=True)
    if len(distinct) <= most:
        return distinct, numbers
    if most == 1:
        return weights.mean(keepdims=True), np.zeros(len(weights), np.int64)
    if rule == "cws":
        return _used(*clusters(weights, most, zeros))
    if rule == "pws":
        return _used(*probabilistic(weights, most, generator))
    return _used(*(uniform(weights, most) if rule == "uq" else entropy_constrained(weights, most)))


def _used(values: Array, numbers: Array) -> Shared:
    """Without the values that no weight has."""
    kept, numbers = np.unique(numbers, return_inverse=True)
    return values[kept], numbers


def clusters(weights: Array, most: int, zeros: int) -> Shared:
    """CWS: k-means in one dimension, by Lloyd's algorithm from quantiles until no weight changes its cluster."""
    ordered = np.sort(np.concatenate([weights, np.zeros(zeros)]))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centres = np.unique(np.quantile(weights, (np.arange(most) + 0.5) / most))
    edges = np.zeros(0)
    for _ in range(MOST_ROUNDS):
        bounds = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        if np.array_equal(bounds, edges):
            break
        edges = bounds
        ends = np.concatenate([[0], bounds, [len(ordered)]])
        counts = np.diff(ends)
        means = np.diff(sums[ends])[counts > 0] / counts[counts > 0]
        edges = edges if len(means) == len(centres) else np.zeros(0)
        centres = means
    return centres, np.searchsorted((centres[1:] + centres[:-1]) / 2, weights)


def probabilistic(weights: Array, most: int, generator: np.random.Generator) -> Shared:
    """PWS: the ends of k − 1 intervals between quantiles; a weight becomes an end of its interval, in the mean itself."""
    ends = np.unique(np.quantile(weights, np.linspace(0, 1, most)))
    low = np.clip(np.searchsorted(ends, weights, side="right") - 1, 0, len(ends) - 2)
    share = (weights - ends[low]) / (ends[low + 1] - ends[low])
    return ends, low + (generator.random(len(weights)) < share)


def uniform(weights: Array, most: int) -> Shared:
    """UQ: the smallest step of a grid with at most k distinct multiples of it among the rounded weights.

    The steps of the official code end at 1; larger ones double.
    """
    steps = itertools.takewhile(lambda step: step < LAST_STEP, (FIRST_STEP + STEP * i for i in itertools.count()))
    ordered = np.sort(weights)
    for step in itertools.chain(steps, (LAST_STEP * 2.0**i for i in itertools.count())):
        codes = np.rint(ordered / step)
        if np.count_nonzero(codes[1:] != codes[:-1]) < most:
            break
    multiples, numbers = np.unique(np.rint(weights / step), return_inverse=True)
    return multiples * step, numbers


def entropy_constrained(weights: Array, most: int) -> Shared:
    """ECSQ: the run with the most values, but at most k, along the falling prices λ of a bit."""
    ordered = np.sort(weights)
    best: Array | None = None
    edges = np.zeros(0)
    for price in PRICES:
        centres, bounds = _priced(ordered, most, price)
        if len(centres) <= most and (best is None or len(centres) > len(best)):
            best, edges = centres, bounds
        if len(centres) >= most:
            break
    if best is None:
        return uniform(weights, most)
    return best, np.searchsorted(edges, weights)


def _priced(ordered: Array, most: int, price: float) -> Shared:
    """(centres, bounds between their weights) that lower mean |w − c| − λ log p, from equal parts; empty clusters go."""
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    ends = np.unique(np.linspace(0, len(ordered), PARTS * most + 1).round().astype(np.int64))
    centres = np.diff(sums[ends]) / np.diff(ends)
    before = np.inf
    for _ in range(ITERATIONS):
        counts = np.diff(ends)
        costs = -price * np.log(counts / len(ordered))
        centres, costs = _undominated(centres, costs)
        bounds = (centres[1:] + centres[:-1] + np.diff(costs)) / 2
        numbers = np.searchsorted(bounds, ordered)
        cost = float(np.mean(np.abs(ordered - centres[numbers]) + costs[numbers]))
        used, numbers = np.unique(numbers, return_inverse=True)
        centres, costs = centres[used], costs[used]
        bounds = (centres[1:] + centres[:-1] + np.diff(costs)) / 2
        ends = np.concatenate([[0], np.searchsorted(numbers, np.arange(1, len(centres))), [len(ordered)]])
        centres = np.diff(sums[ends]) / np.diff(ends)
        if len(centres) <= most or not cost < before:
            break
        before = cost
    return centres, bounds


def _undominated(centres: Array, costs: Array) -> Shared:
    """Without the centres that no weight prefers: another one is cheaper even at their place."""
    left = np.minimum.accumulate(costs - centres) + centres  # the cheapest at each place from centres up to it
    right = np.minimum.accumulate((costs + centres)[::-1])[::-1] - centres
    kept = costs <= np.minimum(left, right) + 1e-12 * np.abs(centres).max()  # they differ from themselves by rounding
    return centres[kept], costs[kept]
