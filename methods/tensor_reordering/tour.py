"""The greedy nearest-neighbour tour through the columns of a matrix: exact, by a k-d tree that loses the visited columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

from benchmarks.bitstream.bytesio import Ints

LEAF = 16  # points of a leaf, up to rounding
Floats: TypeAlias = npt.NDArray[np.float64]


def tour(columns: npt.NDArray[Any]) -> Ints:
    """The order (N,) in which the N columns of a matrix (g, N) are visited (Ulicny et al. 2021, official code).

    The first is the column of the largest norm. Each next one is, of the columns that were not visited, the nearest one to the
    last by squared Euclidean distance, in fp64. Of several at one distance, the first in the matrix is next. Equal columns
    follow each other, so that only the first of them is searched for.
    """
    points = np.ascontiguousarray(columns.T, np.float64)
    first = int(np.argmax(np.square(points).sum(1)))
    by_value = np.lexsort(points.T)  # equal columns side by side, as in the matrix
    ordered = points[by_value]
    begins = np.flatnonzero(np.append(True, (ordered[1:] != ordered[:-1]).any(1)))
    firsts, ends = np.sort(by_value[begins]), np.append(begins[1:], len(points))
    tree = _built(points[firsts])
    visited = _walk(
        tree.points, tree.index, tree.counts, tree.low, tree.high, int(np.searchsorted(firsts, first)), len(firsts)
    )
    groups = np.argsort(by_value[begins])[visited]
    sizes = (ends - begins)[groups]
    starts = np.repeat(begins[groups] - (np.cumsum(sizes) - sizes), sizes)
    return np.asarray(by_value[starts + np.arange(len(points))], np.int64)


@dataclass(frozen=True)
class _Tree:
    """A perfect binary tree. Node 1 is the root, and 2i and 2i + 1 are the children of i.

    All leaves have as many places: `points` (leaves, g, places), and their places `index` (leaves, places) in the matrix, −1
    where there is none. A node has the `counts` of points that were not visited, and their box from `low` to `high` (nodes, g).
    """

    points: Floats
    index: Ints
    counts: Ints
    low: Floats
    high: Floats


def _built(points: Floats) -> _Tree:
    """Each node is halved at the median of its widest side; all nodes of a level at the same time."""
    count, sides = points.shape
    depth = max(0, (count - 1) // LEAF).bit_length()
    leaves = 1 << depth
    size = -(-count // leaves)
    order = np.full(leaves * size, -1)  # −1 is the last point once more
    order[:count] = np.arange(count)
    for level in range(depth):
        nodes = order.reshape(1 << level, -1)
        own = points[nodes]
        widest = np.argmax(own.max(1) - own.min(1), 1)
        keys = np.take_along_axis(own, widest[:, None, None], 2)[:, :, 0]
        halves = np.argpartition(keys, nodes.shape[1] // 2, axis=1)
        order = np.take_along_axis(nodes, halves, 1).reshape(-1)
    counts = np.zeros(2 * leaves, np.int64)
    low, high = np.full((2 * leaves, sides), np.inf), np.full((2 * leaves, sides), -np.inf)
    own, real = points[order].reshape(leaves, size, sides), (order >= 0).reshape(leaves, size)
    counts[leaves:] = real.sum(1)
    low[leaves:] = np.where(real[:, :, None], own, np.inf).min(1)
    high[leaves:] = np.where(real[:, :, None], own, -np.inf).max(1)
    for level in reversed(range(depth)):
        here, below = slice(1 << level, 2 << level), slice(2 << level, 4 << level)
        counts[here] = counts[below].reshape(-1, 2).sum(1)
        low[here] = low[below].reshape(-1, 2, sides).min(1)
        high[here] = high[below].reshape(-1, 2, sides).max(1)
    return _Tree(np.ascontiguousarray(own.swapaxes(1, 2)), order.reshape(leaves, size), counts, low, high)


@numba.njit(cache=True, nogil=True)
def _walk(points: Floats, index: Ints, counts: Ints, low: Floats, high: Floats, first: int, total: int) -> Ints:
    """Visits all points; changes `index` (−1 for visited ones), `counts` and the boxes.

    A box is skipped only if its distance is above the best one. Both distances add the squares of the sides in one order, and
    rounding is monotone: the distance of a box is never above that of a point in it, so that ties are found, too.
    """
    leaves, sides, size = points.shape
    found = np.empty(total, np.int64)
    distances, x = np.empty(size), np.empty(sides)
    stack, apart = np.empty(64, np.int64), np.empty(64)
    place = 0
    while index[place // size, place % size] != first:
        place += 1
    for step in range(total):
        leaf = place // size
        found[step] = index[leaf, place % size]
        index[leaf, place % size] = -1
        _removed(points, index, counts, low, high, leaf)
        if step + 1 == total:
            break
        x[:] = points[leaf, :, place % size]
        best, nearest, which = np.inf, -1, -1
        node = leaves + leaf
        stack[0], apart[0], deep = node, 0.0, 1
        while True:
            while deep:
                deep -= 1
                at = stack[deep]
                if counts[at] == 0 or apart[deep] > best:
                    continue
                if at >= leaves:
                    leaf = at - leaves
                    distances[:] = 0.0
                    for side in range(sides):
                        for other in range(size):
                            distances[other] += (points[leaf, side, other] - x[side]) ** 2
                    for other in range(size):
                        nearer = distances[other] < best or (distances[other] == best and index[leaf, other] < which)
                        if nearer and index[leaf, other] >= 0:
                            best, nearest, which = distances[other], leaf * size + other, index[leaf, other]
                    continue
                left, right = _apart(x, low[2 * at], high[2 * at]), _apart(x, low[2 * at + 1], high[2 * at + 1])
                child = 2 * at if left <= right else 2 * at + 1  # the nearer one is on top
                if max(left, right) <= best:
                    stack[deep], apart[deep] = child ^ 1, max(left, right)
                    deep += 1
                if min(left, right) <= best:
                    stack[deep], apart[deep] = child, min(left, right)
                    deep += 1
            if node == 1:
                break
            other = node ^ 1
            stack[0], apart[0], deep = other, _apart(x, low[other], high[other]), 1
            node //= 2
        place = nearest
    return found


@numba.njit(cache=True, nogil=True, inline="always")
def _apart(x: Floats, low: Floats, high: Floats) -> float:
    """The squared distance of a point to a box; infinite for an empty one."""
    distance = 0.0
    for side in range(len(x)):
        distance += max(low[side] - x[side], x[side] - high[side], 0.0) ** 2
    return distance


@numba.njit(cache=True, nogil=True)
def _removed(points: Floats, index: Ints, counts: Ints, low: Floats, high: Floats, leaf: int) -> None:
    """Update the counts and the boxes above a leaf that has lost a point."""
    leaves, sides, size = points.shape
    node = leaves + leaf
    while node:
        counts[node] -= 1
        node //= 2
    for side in range(sides):
        least, most = np.inf, -np.inf
        for other in range(size):
            if index[leaf, other] >= 0:
                least, most = min(least, points[leaf, side, other]), max(most, points[leaf, side, other])
        node = leaves + leaf
        while node and (low[node, side] != least or high[node, side] != most):
            low[node, side], high[node, side] = least, most
            other = node ^ 1
            node //= 2
            if node:
                least, most = min(least, low[other, side]), max(most, high[other, side])
