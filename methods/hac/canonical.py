"""Canonical Huffman codes without a tree, and their bit streams (Marinò et al., IEEE Access 2023, and its official code).

Symbols are numbered from 0. A stream is a sequence of 32-bit words that are filled from their highest bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.errors import BitstreamError
from methods.hac.kernels import Array, depths, read_places, write

WORD = 32  # bits
LONGEST = 32  # bits of a code
STEP = 12  # bits that the table of a decoder looks up


def code_lengths(counts: Array) -> Array:
    """The bits (k,) of each symbol's code, uint8, from its count; 0 for symbols without a count, 1 for a single one.

    No code is longer than LONGEST bits: counts are halved until that holds, which costs nearly nothing.
    """
    lengths = np.zeros(len(counts), np.uint8)
    used = np.flatnonzero(counts)
    order = used[np.argsort(counts[used], kind="stable")]
    if len(order) < 2:
        lengths[order] = 1
        return lengths
    ordered = counts[order].astype(np.int64)
    found = depths(ordered.copy())
    while found.max() > LONGEST:
        ordered = ordered // 2 + 1
        found = depths(ordered.copy())
    lengths[order] = found
    return lengths


@dataclass(frozen=True)
class Code:
    """A prefix code by the `lengths` (k,) of its codes: those of one length are consecutive numbers, in the order of symbols.

    `order` are the symbols by length, `first` and `start` (longest + 2,) for each length the first code, moved to the left of
    `longest` bits, and its place in `order`. `table` has an entry for each beginning of a code of STEP bits at most: place in
    `order` and length or, where codes are longer, 0 and the least length.
    """

    lengths: Array
    order: Array
    first: Array
    start: Array
    longest: int
    table: Array

    @classmethod
    def of(cls, lengths: Array) -> Code:
        """The code; raises BitstreamError for lengths of no complete prefix code."""
        lengths = np.asarray(lengths, np.uint8)
        used = lengths[lengths > 0].astype(np.int64)
        longest = int(used.max(initial=0))
        full = int((1 << (LONGEST - used[used <= LONGEST])).sum())
        if (
            not len(used)
            or longest > LONGEST
            or full != 1 << (LONGEST - 1 if len(used) == 1 and longest == 1 else LONGEST)
        ):
            raise BitstreamError("the lengths of a Huffman code are not those of a complete code: the file is damaged")
        order = np.argsort(lengths, kind="stable")[len(lengths) - len(used) :].astype(np.int32)
        counts = np.bincount(lengths[order], minlength=longest + 1)
        start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        first = np.concatenate([[0], np.cumsum(counts << (longest - np.arange(longest + 1)))]).astype(np.int64)
        return cls(lengths, order, first, start, longest, _table(first, start, longest))

    @property
    def codes(self) -> Array:
        """The code (k,) of each symbol, uint64; 0 for symbols without one."""
        places = np.arange(len(self.order), dtype=np.int64)
        lengths = self.lengths[self.order].astype(np.int64)
        moved = self.first[lengths] + ((places - self.start[lengths]) << (self.longest - lengths))
        found = np.zeros(len(self.lengths), np.uint64)
        found[self.order] = moved >> (self.longest - lengths)
        return found


def _table(first: Array, start: Array, longest: int) -> Array:
    """(2^min(longest, STEP), 2) int32: see `Code`."""
    bits = min(longest, STEP)
    beginning = np.arange(1 << bits, dtype=np.int64) << (longest - bits)
    length = np.maximum(
        np.searchsorted(first[1:], beginning, side="right"), 1
    )  # of the code at the start of the window
    length = np.minimum(length, longest)
    place = start[length] + ((beginning - first[length]) >> (longest - length))
    place = np.where(length > bits, 0, np.minimum(place, start[-1] - 1))
    return np.stack([place, length], axis=1).astype(np.int32)


def pack(symbols: Array, code: Code) -> tuple[Array, Array]:
    """The stream of symbols (columns, rows), column after column, as uint32 words, and where each column ends, in bits.

    Negative numbers are left out. Every other symbol needs a code.
    """
    kept = symbols[symbols >= 0]
    lengths = code.lengths.astype(np.int64)
    total = int(lengths[kept].sum())
    words, ends = np.zeros(-(-total // WORD), np.uint32), np.zeros(len(symbols), np.int64)
    write(symbols, code.codes, lengths, words, ends)
    return words, ends


def unpack(words: Array, code: Code, count: int) -> Array:
    """The first `count` symbols of a stream, int32; raises BitstreamError for a stream that `pack` can't have written."""
    found = np.empty(count, np.int32)
    step = min(code.longest, STEP)
    read = read_places(words, code.table, code.first, code.start, code.longest, step, found)
    padding = WORD * len(words) - read
    alone = len(code.order) == 1  # its code is a 0, and a 1 is none
    if read < 0 or padding >= WORD or (padding and int(words[-1]) & ((1 << padding) - 1)) or (alone and words.any()):
        raise BitstreamError("a stream of Huffman codes does not hold the promised weights: the file is damaged")
    return code.order[found]
