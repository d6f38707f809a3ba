"""The codec: matrices in the shortest of the formats, with one dictionary of values and one code for each group of layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.bitstream.bytesio import join_blocks, split_blocks
from benchmarks.bitstream.codecs.index import decode_indices, encode_indices
from benchmarks.bitstream.codecs.raw import from_floats, to_floats
from benchmarks.errors import BitstreamError
from methods.hac.canonical import LONGEST, Code
from methods.hac.formats import (
    CODED,
    FORMATS,
    SHARED,
    Format,
    choose,
    lengths_of,
    plain,
    read,
    symbols_of,
    written,
)
from methods.hac.kernels import Array
from methods.interface import Coded, Part

LARGEST_DICTIONARY = 2**16  # values


def part(targets: Sequence[str], weights: Sequence[Array], groups: Sequence[int]) -> Part:
    """Code `weights` (outputs, …), fp32; those with one number in `groups` share a dictionary and a Huffman code."""
    data = {"weights": [np.asarray(weight, np.float32) for weight in weights], "groups": list(groups)}
    return Part("hac.matrices", tuple(targets), "weights", data)


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """(columns, rows) of the matrix of a weight (outputs, …): its outputs are columns."""
    if not shape:
        raise BitstreamError("a single value is no matrix: it can't be stored by this codec")
    return shape[0], math.prod(shape[1:])


def dictionary(matrices: Sequence[Array]) -> Array:
    """The distinct non-zero values, rising."""
    values = np.unique(np.concatenate([np.zeros(0, np.float32), *(matrix.reshape(-1) for matrix in matrices)]))
    return values[values != 0]


@dataclass(frozen=True)
class Group:
    """Matrices (columns, rows) that share the dictionary `values` and the codes of both Huffman formats, if they use them."""

    formats: list[Format]
    matrices: list[Array]
    values: Array
    codes: dict[Format, Code]

    @classmethod
    def of(cls, matrices: list[Array]) -> Group:
        """The shortest formats for fp32 matrices."""
        values = dictionary(matrices)
        if len(values) > LARGEST_DICTIONARY:
            chosen = [plain(matrix) for matrix in matrices]
        else:
            chosen = choose([symbols_of(matrix, values) for matrix in matrices], len(values))
        values = dictionary([matrix for matrix, name in zip(matrices, chosen, strict=True) if name in SHARED])
        pairs = zip(chosen, matrices, strict=True)
        shared = [(name, symbols_of(matrix, values)) for name, matrix in pairs if name in CODED]
        lengths = lengths_of(shared, len(values))
        codes = {name: Code.of(own) for name, own in lengths.items() if own.any()}
        return cls(chosen, matrices, values, codes)

    @property
    def lengths(self) -> list[tuple[bool, bytes]]:
        """(packed?, bytes) of the lengths of each code."""
        codes = (self.codes[name] for name in CODED if name in self.codes)
        return [encode_indices(code.lengths.astype(np.int64), LONGEST + 1) for code in codes]

    def streams(self) -> list[tuple[bytes, bytes]]:
        """(values, indices) of each matrix."""
        return [
            written(name, matrix, self.values, self.codes.get(name))
            for name, matrix in zip(self.formats, self.matrices, strict=True)
        ]


def encode(part: Part) -> Coded:
    numbers: list[int] = part.data["groups"]
    matrices = []
    for target, weight in zip(part.targets, part.data["weights"], strict=True):
        to_floats(weight, "float32", target)  # refuses what is not finite
        matrices.append(weight.reshape(matrix_shape(weight.shape)))
    order = list(dict.fromkeys(numbers))
    groups = [Group.of([m for m, own in zip(matrices, numbers, strict=True) if own == number]) for number in order]
    formats = {number: iter(group.formats) for number, group in zip(order, groups, strict=True)}
    streams = {number: iter(group.streams()) for number, group in zip(order, groups, strict=True)}
    streamed = [next(streams[number]) for number in numbers]
    lengths = [one for group in groups for one in group.lengths]
    meta = {
        "groups": [order.index(number) for number in numbers],
        "formats": [FORMATS.index(next(formats[number])) for number in numbers],
        "values": [len(group.values) for group in groups],
        "codes": [[name in group.codes for name in CODED] for group in groups],
        "packed": [packed for packed, _ in lengths],
    }
    values = to_floats(np.concatenate([group.values for group in groups]), "float32", "a dictionary")
    return Coded(
        meta,
        (
            ("codebooks", values),
            ("codebooks", join_blocks(block for _, block in lengths)),
            ("weights", join_blocks(stream for stream, _ in streamed)),
            ("indices", join_blocks(indices for _, indices in streamed)),
        ),
    )


def decode(meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]) -> list[Array]:
    sizes, numbers, formats = meta["values"], meta["groups"], meta["formats"]
    groups = len(sizes)
    if (
        len(streams) != 4
        or not len(shapes) == len(numbers) == len(formats)
        or [len(flags) for flags in meta["codes"]] != [len(CODED)] * groups
        or len(meta["packed"]) != sum(map(sum, meta["codes"]))
        or any(type(size) is not int or not 0 <= size <= LARGEST_DICTIONARY for size in sizes)
        or any(type(number) is not int or not 0 <= number < groups for number in numbers)
        or any(type(name) is not int or not 0 <= name < len(FORMATS) for name in formats)
    ):
        raise BitstreamError("a part of matrices is malformed: the file is damaged")
    values = from_floats(streams[0], "float32")
    if values.size != sum(sizes):
        raise BitstreamError("the dictionaries do not have the sizes in the header: the file is damaged")
    dictionaries = np.split(values, np.cumsum(sizes)[:-1])
    codes = _codes(meta, streams[1], {(number, FORMATS[name]) for number, name in zip(numbers, formats, strict=True)})
    known = [matrix_shape(shape) for shape in shapes]
    pairs = zip(*(split_blocks(stream, len(shapes)) for stream in streams[2:]), strict=True)
    return [
        read(FORMATS[name], pair, shape, dictionaries[number], codes[number].get(FORMATS[name])).reshape(wanted)
        for name, number, pair, shape, wanted in zip(formats, numbers, pairs, known, shapes, strict=True)
    ]


def _codes(meta: Mapping[str, Any], stream: bytes, used: set[tuple[int, Format]]) -> list[dict[Format, Code]]:
    """The Huffman codes of each group; each one has to be `used` by a matrix."""
    wanted = [
        (number, name)
        for number, flags in enumerate(meta["codes"])
        for name, flag in zip(CODED, flags, strict=True)
        if flag
    ]
    if not set(wanted) <= used or {number for number, _ in used} != set(range(len(meta["values"]))):
        raise BitstreamError("a part of matrices has codes or groups that no matrix uses: the file is damaged")
    blocks = zip(meta["packed"], split_blocks(stream, len(wanted)), strict=True)
    found: list[dict[Format, Code]] = [{} for _ in meta["values"]]
    for (number, name), (packed, block) in zip(wanted, blocks, strict=True):
        lengths = decode_indices(bool(packed), block, meta["values"][number] + 1, LONGEST + 1)
        found[number][name] = Code.of(lengths)
    return found


CODECS = {"matrices": SimpleNamespace(part=part, encode=encode, decode=decode)}
