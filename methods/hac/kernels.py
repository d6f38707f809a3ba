"""Compiled loops: lengths of Huffman codes, their streams, and products with matrices in them.

They are one file, because the cache of compiled code knows only the file of a function, not those of what it calls.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_compiled = numba.njit(cache=True)
_inlined = numba.njit(inline="always")


@_compiled
def depths(counts: Array) -> Array:
    """The lengths of the codes for at least two counts in rising order, in their place (Moffat and Katajainen 1995)."""
    n = len(counts)
    root, leaf = 0, 2
    counts[0] += counts[1]
    for at in range(1, n - 1):
        for second in range(2):
            if leaf >= n or (root < at and counts[root] < counts[leaf]):
                taken = counts[root]
                counts[root] = at
                root += 1
            else:
                taken = counts[leaf]
                leaf += 1
            counts[at] = counts[at] + taken if second else taken
    counts[n - 2] = 0
    for at in range(n - 3, -1, -1):
        counts[at] = counts[counts[at]] + 1
    free, used, depth, root, at = 1, 0, 0, n - 2, n - 1
    while free > 0:
        while root >= 0 and counts[root] == depth:
            used += 1
            root -= 1
        while free > used:
            counts[at] = depth
            at -= 1
            free -= 1
        free, used, depth = 2 * used, 0, depth + 1
    return counts


@_inlined
def _window(words: Array, at: int, longest: int) -> Any:
    """The `longest` bits of a stream from bit `at` on; bits after its end are 0."""
    word = at >> 5
    high = np.uint64(words[word]) if word < len(words) else np.uint64(0)
    low = np.uint64(words[word + 1]) if word + 1 < len(words) else np.uint64(0)
    both = (high << np.uint64(32)) | low
    return np.int64((both << np.uint64(at & 31)) >> np.uint64(64 - longest))


@_inlined
def _symbol(bits: int, table: Array, first: Array, start: Array, longest: int, step: int) -> Any:
    """(place in the order of symbols, length) of the code at the start of `longest` bits."""
    entry = bits >> (longest - step)
    length = table[entry, 1]
    if length <= step:
        return table[entry, 0], length
    while length < longest and bits >= first[length + 1]:
        length += 1
    return start[length] + ((bits - first[length]) >> (longest - length)), length


@_compiled
def write(symbols: Array, codes: Array, lengths: Array, words: Array, ends: Array) -> None:
    """Fill the `words` of a stream with the codes of symbols (columns, rows), and `ends` with where columns end, in bits."""
    buffer, filled, at, total = np.uint64(0), 0, 0, 0
    columns, rows = symbols.shape
    for column in range(columns):
        for row in range(rows):
            number = symbols[column, row]
            if number < 0:
                continue
            length = lengths[number]
            buffer = (buffer << np.uint64(length)) | codes[number]
            filled += length
            total += length
            if filled >= 32:
                filled -= 32
                words[at] = buffer >> np.uint64(filled)
                buffer &= (np.uint64(1) << np.uint64(filled)) - np.uint64(1)
                at += 1
        ends[column] = total
    if filled:
        words[at] = buffer << np.uint64(32 - filled)


@_compiled
def read_places(words: Array, table: Array, first: Array, start: Array, longest: int, step: int, found: Array) -> int:
    """Fill `found` with places in the order of symbols; returns the bits that they take, or −1 where the stream ends before."""
    at, last = 0, 32 * len(words)
    for number in range(len(found)):
        place, length = _symbol(_window(words, at, longest), table, first, start, longest, step)
        at += length
        if at > last:
            return -1
        found[number] = place
    return at


@numba.njit(parallel=True, cache=True)
def hac(
    words: Array,
    ends: Array,
    table: Array,
    first: Array,
    start: Array,
    longest: int,
    step: int,
    values: Array,
    x: Array,
) -> Array:
    """(columns, batch) from x (rows, batch): every entry has a code. `values` are in the order of places."""
    rows, batch = x.shape
    out = np.zeros((len(ends), batch), np.float32)
    for column in numba.prange(len(ends)):
        total = out[column]
        at = ends[column - 1] if column else 0
        for row in range(rows):
            place, length = _symbol(_window(words, at, longest), table, first, start, longest, step)
            at += length
            value = values[place]
            if value != 0:
                for item in range(batch):
                    total[item] += value * x[row, item]
    return out


@numba.njit(parallel=True, cache=True)
def shac(
    words: Array,
    ends: Array,
    table: Array,
    first: Array,
    start: Array,
    longest: int,
    step: int,
    values: Array,
    x: Array,
    begin: Array,
    places: Array,
) -> Array:
    """The same where non-zero entries have codes; those of a column start at `begin`, and `places` are their rows."""
    batch = x.shape[1]
    out = np.zeros((len(ends), batch), np.float32)
    for column in numba.prange(len(ends)):
        total = out[column]
        at = ends[column - 1] if column else 0
        for entry in range(begin[column], begin[column + 1]):
            place, length = _symbol(_window(words, at, longest), table, first, start, longest, step)
            at += length
            value, row = values[place], places[entry]
            for item in range(batch):
                total[item] += value * x[row, item]
    return out
