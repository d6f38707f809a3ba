"""Nearest-neighbour tours by the k-d tree against a compiled search through all columns that are left, in the same run.

    pytest benchmarks/perf/test_tensor_reordering.py -s

The official code searches with numpy and copies the remaining columns at each step, which takes hours at this size.
"""

from __future__ import annotations

import time
from typing import Any

import numba
import numpy as np
import pytest

from methods.tensor_reordering.tour import tour


@numba.njit
def exhaustive(columns: Any) -> Any:
    """The same tour: visited columns are overwritten by the last remaining ones, and distances are computed in SIMD."""
    rows, count = columns.shape
    left, places = columns.copy(), np.arange(count)
    found, distances, last = np.empty(count, np.int64), np.empty(count), np.empty(rows)
    at = int(np.argmax((columns**2).sum(0)))
    for step in range(count):
        found[step] = places[at]
        remaining = count - step - 1
        last[:] = left[:, at]
        left[:, at], places[at] = left[:, remaining], places[remaining]
        distances[:remaining] = 0.0
        for row in range(rows):
            for other in range(remaining):
                distances[other] += (left[row, other] - last[row]) ** 2
        at = int(np.argmin(distances[:remaining])) if remaining else 0
    return found


@pytest.mark.parametrize("groups", [4, 8])
def test_tour_of_65536_columns(groups: int) -> None:
    columns = np.random.default_rng(0).standard_normal((groups, 2**16))
    for search in (tour, exhaustive):
        search(columns[:, :100])  # compiled
    start = time.perf_counter()
    found = tour(columns)
    fast_s = time.perf_counter() - start
    start = time.perf_counter()
    expected = exhaustive(columns)
    slow_s = time.perf_counter() - start
    print(f"\n65,536 columns of {groups}: tree {fast_s:.2f} s, all {slow_s:.2f} s, {slow_s / fast_s:.1f} times faster")
    assert np.array_equal(found, expected)  # no two distances are equal
