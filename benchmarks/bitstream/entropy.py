"""Entropy coding of integers and bits by constriction's range coder, with integer frequency tables.

Probabilities passed to constriction are dyadic rationals with few bits, so that every floating-point operation of its
fixed-point conversion is exact: a stream written on one machine decodes on every other.
"""

from __future__ import annotations

import functools
import math

import constriction
import numpy as np
import numpy.typing as npt

from benchmarks.bitstream.bytesio import Ints, Reader, unzigzag, varints, zigzag
from benchmarks.errors import BitstreamError

MAX_ALPHABET = 1024  # values outside are escaped: a larger table would cost more than it saves
_GEOMETRIC_BITS = 20
_RATIOS = 4096  # of neighbouring frequencies of a geometric distribution, in units of 1/4096
_TOGETHER = 2**16  # symbols that constriction returns together, in a type of its own
_SMALL = 2**16  # with more values than this, the size of a table is negligible: don't try both models


def _table_bits(alphabet: int) -> int:
    """Binary logarithm of the sum of a table's frequencies. 12 costs < 0.1 % of the rate; a bit mask may be more skewed."""
    return 20 if alphabet <= 2 else 12


def _dyadic(counts: Ints, bits: int) -> Ints:
    """Scale `counts` to integers that sum to 2^bits and are positive where counts are (largest remainders)."""
    shares, remainders = np.divmod(counts << bits, counts.sum())
    scaled = np.where(counts > 0, np.maximum(shares, 1), 0)
    short = (1 << bits) - int(scaled.sum())
    if short > 0:
        scaled[np.argsort(-remainders, kind="stable")[:short]] += 1
    while short < 0:  # many rare symbols were raised to 1: subtract this from the frequent ones
        largest = int(np.argmax(scaled))
        take = min(-short, max(1, int(scaled[largest]) // 2))
        scaled[largest] -= take
        short += take
    return scaled


@functools.cache
def _falling(bits: int) -> npt.NDArray[np.int32]:
    """By ratio and by distance from the centre, below 2^bits: the frequencies of `_geometric` before they are scaled.

    All ratios at once take as long as some dozens one by one, and a file may have thousands of small streams.
    """
    ratios = np.arange(_RATIOS, dtype=np.int64)
    falling = np.full((1 << bits, _RATIOS), 1 << 20, np.int32)
    for distance in range(1, 1 << bits):
        falling[distance] = np.maximum(1, falling[distance - 1] * ratios >> 12)
    return np.ascontiguousarray(falling.T)


def _geometric(size: int, centre: int, ratio: int, escaped: int, inside: int) -> Ints:
    """Frequencies that decrease from `centre` by ratio/4096 per step on both sides; the last one is for escapes, if any.

    A stream stores two numbers instead of a table, which is shorter for the few hundred weights of a small layer. Only
    integers are used, so that every machine computes the same.
    """
    falling = _falling(max(centre, size - 1 - centre).bit_length())[ratio]
    counts = falling[np.abs(np.arange(size) - centre)].astype(np.int64)
    if escaped:
        counts = np.append(counts, np.clip(int(counts.sum()) * escaped // max(inside, 1), 1, 2**40))
    return _dyadic(counts, _GEOMETRIC_BITS)


def _model(frequencies: Ints) -> constriction.stream.model.Categorical:
    probabilities = frequencies.astype(np.float64) / float(frequencies.sum())
    return constriction.stream.model.Categorical(probabilities, perfect=False)


def _range_encode(symbols: Ints, frequencies: Ints) -> bytes:
    coder = constriction.stream.queue.RangeEncoder()
    coder.encode(symbols.astype(np.int32), _model(frequencies))
    words: npt.NDArray[np.uint32] = coder.get_compressed()
    return words.astype("<u4").tobytes()


def _range_decode(data: bytes, count: int, frequencies: Ints) -> Ints:
    if len(data) % 4:
        raise BitstreamError("a range-coded stream is not a whole number of words: the file is damaged")
    coder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
    symbols, possible = np.empty(count, np.int64), frequencies > 0
    try:
        model = _model(frequencies)
        for start in range(0, count, _TOGETHER):
            symbols[start : start + _TOGETHER] = coder.decode(model, min(_TOGETHER, count - start))
    except Exception as error:  # constriction raises its own types for invalid data
        raise BitstreamError("a range-coded stream can't be decoded: the file is damaged") from error
    if not coder.maybe_exhausted():
        raise BitstreamError("a range-coded stream is longer than its symbols: the file is damaged")
    if not possible[symbols].all():
        raise BitstreamError("a stream uses a symbol of frequency zero: the file is damaged")
    return symbols


def encode_integers(values: npt.ArrayLike) -> bytes:
    """Entropy-code integers (any shape, |value| < 2^62) with their own static frequencies.

    The frequencies cover a window of at most `MAX_ALPHABET` values; values outside are escaped and stored as varints. The
    model is a table or, if that gives fewer bytes in total, a two-sided geometric distribution.
    """
    flat = np.asarray(values).reshape(-1).astype(np.int64)
    if flat.size == 0:
        return b""
    low, high = int(flat.min()), int(flat.max())
    if low < -(2**62) or high >= 2**62:
        raise BitstreamError("integers of 2^62 or more can't be written: a step is zero, or NaN was quantised")
    if high - low + 1 > MAX_ALPHABET:
        low = int(np.clip(int(np.median(flat)) - MAX_ALPHABET // 2, low, high - MAX_ALPHABET + 1))
        high = low + MAX_ALPHABET - 1
    inside = (flat >= low) & (flat <= high)
    escapes = flat[~inside]
    size = high - low + 1
    symbols = np.where(inside, flat - low, size)
    table = _dyadic(np.bincount(symbols, minlength=size + (escapes.size > 0)), _table_bits(size))
    coded = _with_frequencies([zigzag(low), size << 1, escapes.size, *table[:size].tolist()], escapes, symbols, table)
    if flat.size > _SMALL:
        return coded
    centre = int(np.clip(int(np.median(flat)) - low, 0, size - 1))
    spread = float(np.abs(symbols[inside] - centre).mean()) if inside.any() else 0.0
    ratio = min(4095, round(4096 * (math.sqrt(1 + spread**2) - 1) / spread)) if spread else 0
    model = _geometric(size, centre, ratio, escapes.size, flat.size - escapes.size)
    head = [zigzag(low), size << 1 | 1, escapes.size, centre, ratio]
    return min(coded, _with_frequencies(head, escapes, symbols, model), key=len)


def _with_frequencies(head: list[int], escapes: Ints, symbols: Ints, frequencies: Ints) -> bytes:
    start = varints(head) + varints(zigzag(int(v)) for v in escapes)
    return start if np.count_nonzero(frequencies) == 1 else start + _range_encode(symbols, frequencies)


def decode_integers(data: bytes, count: int) -> Ints:
    """Inverse of `encode_integers` for `count` values; raises BitstreamError for bytes that it can't have written."""
    reader = Reader(data)
    if count == 0:
        reader.end()
        return np.zeros(0, np.int64)
    low = unzigzag(reader.varint())
    size, geometric = divmod(reader.varint(2 * MAX_ALPHABET + 2), 2)
    escaped = reader.varint(count + 1)
    if geometric:
        if size == 0:
            raise BitstreamError("a stream has frequencies for no value: the file is damaged")
        centre, ratio = reader.varint(size), reader.varint(_RATIOS)
        frequencies = _geometric(size, centre, ratio, escaped, count - escaped)
    else:
        frequencies = _read_table(reader, size, escaped)
    escapes = np.array([unzigzag(reader.varint()) for _ in range(escaped)], np.int64)
    if np.count_nonzero(frequencies) == 1:
        reader.end()
        symbols = np.full(count, int(np.flatnonzero(frequencies)[0]), np.int64)
    else:
        symbols = _range_decode(reader.rest(), count, frequencies)
    outside = symbols == size
    if int(outside.sum()) != escaped:
        raise BitstreamError("the number of escaped values is wrong: the file is damaged")
    symbols += low  # in place: a value takes 8 bytes, and not 16
    symbols[outside] = escapes
    return symbols


def _read_table(reader: Reader, size: int, escaped: int) -> Ints:
    total = 1 << _table_bits(size)
    table = [reader.varint(total + 1) for _ in range(size)]
    rest = total - sum(table)
    if rest < 0 or (rest > 0) != (escaped > 0):
        raise BitstreamError("a frequency table does not add up: the file is damaged")
    return np.array([*table, rest] if escaped else table, np.int64)


def encode_bits(bits: npt.ArrayLike) -> bytes:
    """Entropy-code booleans (any shape) by their own frequency: n h(p) bits and a few bytes."""
    return encode_integers(np.asarray(bits, dtype=bool).astype(np.int64))


def decode_bits(data: bytes, count: int) -> npt.NDArray[np.bool_]:
    """Inverse of `encode_bits`."""
    return as_bits(decode_integers(data, count))


def as_bits(values: Ints) -> npt.NDArray[np.bool_]:
    """Decoded integers as booleans; raises BitstreamError if they are not 0 and 1."""
    if values.size and (values.min() < 0 or values.max() > 1):
        raise BitstreamError("a bit mask holds values other than 0 and 1: the file is damaged")
    return values.astype(bool)
