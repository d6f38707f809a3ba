"""What each format of a matrix takes, and its streams: HAC, sHAC, compressed sparse columns (CSC), index map, dense.

A matrix is given by symbols (columns m, rows n): the first axis of a weight are its columns, which follow one another.
Symbol 0 is the value zero (also −0), symbol j the value j − 1 of the dictionary that the matrices of a group share. Indices
take the 8, 16 or 32 bits that the number of rows needs (official code of Marinò et al. 2023).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np

from benchmarks.bitstream.bytesio import read_fixed, write_fixed
from benchmarks.bitstream.codecs.raw import from_floats
from benchmarks.errors import BitstreamError
from methods.hac.canonical import WORD, Code, code_lengths, pack, unpack
from methods.hac.kernels import Array

Format: TypeAlias = Literal["hac", "shac", "csc", "map", "dense"]
FORMATS: tuple[Format, ...] = get_args(Format)
LENGTH = 6  # bits of the length of a code
CODED: tuple[Format, ...] = ("hac", "shac")  # by Huffman codes
SHARED: tuple[Format, ...] = ("hac", "shac", "map")  # with values from the dictionary


def index_bits(rows: int) -> int:
    """8, 16 or 32: the bits of a number from 0 to `rows`."""
    return next(bits for bits in (8, 16, 32) if rows < 1 << bits)


def map_bits(known: int) -> int:
    """⌈log₂⌉ of the number of symbols: the `known` values and zero."""
    return known.bit_length()


def counted(symbols: Array, known: int) -> Array:
    """How often each symbol (known + 1,) occurs in a matrix."""
    return np.bincount(symbols.reshape(-1), minlength=known + 1)


def plain_bits(kept: int, columns: int, rows: int) -> dict[Format, int]:
    """Bits of a matrix with `kept` non-zero entries in the formats without a dictionary."""
    width = index_bits(rows)
    return {"csc": (WORD + width) * kept + width * columns, "dense": WORD * columns * rows}


def all_bits(symbols: Array, known: int, codes: Mapping[Format, Array]) -> dict[Format, int]:
    """Bits of a matrix in each format, by the lengths of both Huffman codes; without dictionary and codes.

    Those of the Huffman formats include a table of column starts, of one word for each column.
    """
    columns, rows = symbols.shape
    counts, width = counted(symbols, known), index_bits(rows)
    kept = symbols.size - int(counts[0])
    values = {name: _words(int((counts[first:] * codes[name][first:]).sum())) for first, name in enumerate(CODED)}
    return {
        "hac": values["hac"] + WORD * columns,
        "shac": values["shac"] + WORD * columns + width * (kept + columns),
        "map": 8 * -(-symbols.size * map_bits(known) // 8),
        **plain_bits(kept, columns, rows),
    }


def _words(bits: int) -> int:
    return WORD * -(-bits // WORD)


def lengths_of(chosen: Iterable[tuple[Format, Array]], known: int) -> dict[Format, Array]:
    """For both Huffman formats, the lengths (known + 1,) of the code of all matrices that are stored so."""
    totals = {name: np.zeros(known + 1, np.int64) for name in CODED}
    for name, symbols in chosen:
        if name in totals:
            totals[name] += counted(symbols, known)
    totals["shac"][0] = 0
    return {name: code_lengths(total) for name, total in totals.items()}


def choose(group: Sequence[Array], known: int) -> list[Format]:
    """A format for each matrix of a group: the shortest choice of four, with the dictionary and the codes.

    In each, the shortest format of a matrix is taken under codes for all matrices. The four allow both Huffman formats, one of
    them, or no dictionary at all.
    """
    candidates = [[plain(symbols) for symbols in group]]
    for allowed in (CODED, CODED[:1], CODED[1:]):
        codes = lengths_of([(name, symbols) for name in allowed for symbols in group], known)
        names = [name for name in FORMATS if name not in CODED or name in allowed]
        found = [all_bits(symbols, known, codes) for symbols in group]
        candidates.append([_shortest({name: bits[name] for name in names}) for bits in found])
    return min(candidates, key=lambda chosen: group_bits(chosen, group, known))


def group_bits(chosen: Sequence[Format], group: Sequence[Array], known: int) -> int:
    """Bits of the matrices of a group in the `chosen` formats, with the dictionary and LENGTH bits for each code length."""
    codes = lengths_of(zip(chosen, group, strict=True), known)
    streams = sum(all_bits(own, known, codes)[name] for name, own in zip(chosen, group, strict=True))
    used = sum(name in chosen for name in CODED)
    return streams + WORD * known * any(name in SHARED for name in chosen) + LENGTH * (known + 1) * used


def plain(matrix: Array) -> Format:
    """The shorter format without a dictionary."""
    return _shortest(plain_bits(int(np.count_nonzero(matrix)), *matrix.shape))


def _shortest(bits: Mapping[Format, int]) -> Format:
    return min(bits, key=lambda name: bits[name])


def symbols_of(matrix: Array, values: Array) -> Array:
    """The symbols of a matrix whose non-zero entries are all in the dictionary, which rises."""
    return np.where(matrix == 0, 0, np.searchsorted(values, matrix) + 1).astype(np.int32)


def sparse(matrix: Array) -> tuple[Array, Array]:
    """(row of each non-zero entry, non-zero entries of each column), column after column."""
    rows = np.broadcast_to(np.arange(matrix.shape[1]), matrix.shape)[matrix != 0]
    return rows, np.count_nonzero(matrix, axis=1)


def written(name: Format, matrix: Array, values: Array, code: Code | None) -> tuple[bytes, bytes]:
    """(values, indices) of one matrix (columns, rows) of fp32; `values` (known,) are the dictionary."""
    if name == "dense":
        return _plain(matrix, "<f4"), b""
    rows, counts = sparse(matrix)
    places = _plain(np.concatenate([counts, rows]), f"<u{index_bits(matrix.shape[1]) // 8}")
    if name == "csc":
        return _plain(matrix[matrix != 0], "<f4"), places
    symbols = symbols_of(matrix, values)
    if name == "map":
        return write_fixed(symbols.reshape(-1).astype(np.int64), map_bits(len(values))), b""
    if code is None:  # an empty matrix in a group of empty matrices
        return b"", _plain(np.zeros(len(matrix)), "<u4") + places
    words, ends = pack(symbols if name == "hac" else symbols - (symbols == 0), code)
    return _plain(words, "<u4"), _plain(ends, "<u4") + (b"" if name == "hac" else places)


def read(name: Format, data: tuple[bytes, bytes], shape: tuple[int, int], values: Array, code: Code | None) -> Array:
    """The matrix (columns, rows), fp32; raises BitstreamError for streams that `written` can't have made."""
    stream, indices = data
    columns, rows = shape
    if name == "dense":
        return _floats(stream, columns * rows).reshape(shape)
    if name == "map":
        _nothing(indices)
        numbers = read_fixed(stream, columns * rows, map_bits(len(values)))
        if int(numbers.max(initial=0)) > len(values):
            raise BitstreamError("an index map has an index beyond its dictionary: the file is damaged")
        return _full(values)[numbers].reshape(shape)
    if name == "hac":
        symbols = unpack(_words_of(stream), _needed(code), columns * rows).reshape(shape)
        _check_ends(indices, np.cumsum(_needed(code).lengths.astype(np.int64)[symbols].sum(1)))
        return _full(values)[symbols]
    starts = 4 * columns if name == "shac" else 0
    width = index_bits(rows)
    places = _read_fixed(indices[starts:], width)
    counts, chosen = places[:columns], places[columns:]
    if len(counts) < columns or int(counts.max(initial=0)) > rows or int(counts.sum()) != len(chosen):
        raise BitstreamError("the columns of a sparse matrix do not add up to its entries: the file is damaged")
    at = np.repeat(np.arange(columns), counts) * rows + chosen
    if int(chosen.max(initial=0)) >= rows or (np.diff(at) <= 0).any():
        raise BitstreamError("a sparse matrix has rows out of order or beyond its size: the file is damaged")
    if name == "csc":
        entries = _floats(stream, len(chosen))
    else:
        own = unpack(_words_of(stream), _needed(code), len(chosen)) if len(chosen) else np.zeros(0, np.int64)
        bits = np.concatenate([[0], np.cumsum(_needed(code).lengths.astype(np.int64)[own])]) if len(chosen) else [0]
        _check_ends(indices[:starts], np.asarray(bits)[np.cumsum(counts)])
        if not len(chosen) and stream:
            raise BitstreamError("an empty matrix has a stream of values: the file is damaged")
        entries = _full(values)[own]
    matrix = np.zeros(columns * rows, np.float32)
    matrix[at] = entries
    return matrix.reshape(shape)


def _full(values: Array) -> Array:
    return np.concatenate([np.zeros(1, np.float32), values])


def _needed(code: Code | None) -> Code:
    if code is None:
        raise BitstreamError("a matrix needs a Huffman code that its group lacks: the file is damaged")
    return code


def _nothing(data: bytes) -> None:
    if data:
        raise BitstreamError("a matrix has indices that its format does not have: the file is damaged")


def _check_ends(data: bytes, wanted: Array) -> None:
    if data != wanted.astype("<u4").tobytes():
        raise BitstreamError("a table of column starts does not fit its stream: the file is damaged")


def _words_of(stream: bytes) -> Array:
    if len(stream) % 4:
        raise BitstreamError("a stream of words has a broken length: the file is damaged")
    return np.frombuffer(stream, "<u4").astype(np.uint32)


def _floats(stream: bytes, count: int) -> Array:
    values = from_floats(stream, "float32")
    if len(values) != count:
        msg = f"a matrix has {len(values)} values where it needs {count}: the file is damaged"
        raise BitstreamError(msg)
    return values


def _plain(numbers: Array, kind: str) -> bytes:
    return numbers.astype(kind).tobytes()


def _read_fixed(data: bytes, width: int) -> Array:
    if len(data) % (width // 8):
        raise BitstreamError("a table of indices has a broken length: the file is damaged")
    return np.frombuffer(data, f"<u{width // 8}").astype(np.int64)
