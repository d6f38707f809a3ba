"""Vector quantisation: tensors cut into vectors, each a sum or a concatenation of codewords from shared codebooks.

A tensor is flattened, padded with zeros to whole vectors of d values, and divided by its scale. Its vectors follow those of
the tensor before it. With a mask, only the values where it is True are coded. Frequent codewords come first in a file, so that
their numbers are small.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.bitstream import integers
from benchmarks.bitstream.bytesio import join_blocks, split_blocks
from benchmarks.bitstream.codecs.index import check_indices, decode_indices, encode_indices
from benchmarks.bitstream.codecs.raw import from_floats, to_floats
from benchmarks.bitstream.entropy import as_bits
from benchmarks.errors import BitstreamError
from methods.interface import Coded, Part, Role

NAME = "codebook"
Floats = npt.NDArray[np.float32]
Kind = Literal["additive", "product"]
# What a decoder adds up: 16 codewords for every vector, and more where the streams are long enough. Codewords of codebooks
# with one entry take no bytes, so that nothing else limits their number.
ADDITIONS_PER_VALUE = 16
ADDITIONS_PER_BYTE = 1024
MOST_BOOKS = 64  # whose codes are context-coded together: they are all in memory while they are decoded
CODES_PER_VALUE, FEW_CODES = 2, 2**16
Storage = Literal["float16", "float32"]


def part(
    targets: Sequence[str],
    codes: npt.ArrayLike,
    codebooks: npt.ArrayLike,
    scales: Sequence[npt.ArrayLike],
    kind: Kind = "additive",
    dtype: Storage = "float16",
    masks: Sequence[npt.ArrayLike] | None = None,
) -> Part:
    """Code vectors (n, M) of codeword numbers below K, with codebooks (M, K, width) and one scale per target.

    "additive": a vector is the sum of its M codewords, d = width; "product": their concatenation, d = M · width. A
    scale is a scalar, or (channels,) along a target's first axis. `masks` are booleans in the targets' shapes: codes
    describe the values where they are True, and all others are zero.
    """
    data = {
        "codes": np.asarray(codes, np.int64),
        "codebooks": np.asarray(codebooks, np.float32),
        "scales": [np.asarray(s, np.float32) for s in scales],
        "kind": kind,
        "dtype": dtype,
        "masks": None if masks is None else [np.asarray(m, bool) for m in masks],
    }
    return Part(NAME, tuple(targets), "codebooks", data)


def vectors(codes: npt.NDArray[np.integer[Any]], codebooks: Floats, kind: Kind) -> Floats:
    """(n, d) fp32 from codes (n, M) and codebooks (M, K, width); summed in the order of the codebooks."""
    return _joined(codes.T, codebooks, len(codes), kind)


def _joined(columns: Iterable[npt.NDArray[np.integer[Any]]], codebooks: Floats, count: int, kind: Kind) -> Floats:
    """`vectors` of one column of codes after the other, so that they are not all needed at once."""
    books, _, width = codebooks.shape
    joined = np.empty((count, width if kind == "additive" else books * width), np.float32)
    for index, (book, column) in enumerate(zip(codebooks, columns, strict=True)):
        if kind == "product":
            joined[:, index * width : (index + 1) * width] = book[column]
        elif index == 0:
            joined[:] = book[column]
        else:
            joined += book[column]
    return joined


def tensor(flat: Floats, shape: tuple[int, ...], scale: Floats, mask: npt.NDArray[np.bool_] | None) -> Floats:
    """A tensor from the values of its vectors, including padding."""
    if mask is None:
        values = flat[: math.prod(shape)].reshape(shape)
    else:
        values = np.zeros(shape, np.float32)
        values[mask] = flat[: int(mask.sum())]
    scaled: Floats = values * scale.reshape(scale.shape + (1,) * (len(shape) - scale.ndim))
    return scaled


def encode(part: Part) -> Coded:
    data = part.data
    codes, codebooks, masks = data["codes"], data["codebooks"], data["masks"]
    books, size, width = codebooks.shape
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < size:
        msg = f"codes for {part.targets[0]} and others are outside [0, {size}): they can't be written"
        raise BitstreamError(msg)
    codes, codebooks = _by_frequency(codes, codebooks)
    columns = [encode_indices(column, size) for column in codes.T]
    stream = join_blocks(block for _, block in columns)
    found: dict[str, bool] = {}
    if books <= min(MOST_BOOKS, width if data["kind"] == "additive" else books * width):
        found, stream = integers.shorter([codes.T], stream)
    scales = b"".join(
        to_floats(s, "float32", f"the scale of {t}") for t, s in zip(part.targets, data["scales"], strict=True)
    )
    meta: dict[str, Any] = {
        "kind": data["kind"],
        "dtype": data["dtype"],
        "shape": [books, size, width],
        "packed": [packed for packed, _ in columns],
        "per_channel": [s.ndim == 1 for s in data["scales"]],
        "masked": masks is not None,
        **found,
    }
    streams: list[tuple[Role, bytes]] = [
        ("codebooks", to_floats(codebooks, data["dtype"], "a codebook")),
        ("codebooks", scales),
        ("indices", stream),
    ]
    if masks is not None:
        bits = [mask.astype(np.int64) for mask in masks]
        meta["masks"], support = integers.shorter(bits, integers.encode_static(bits))
        streams.append(("indices", support))
    return Coded(meta, tuple(streams))


def _by_frequency(
    codes: npt.NDArray[np.int64], codebooks: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """The same vectors with the codewords of each codebook in the order of falling frequency."""
    books, size, _ = codebooks.shape
    orders = [np.argsort(-np.bincount(column, minlength=size), kind="stable") for column in codes.T]
    ranks = np.stack([np.argsort(order) for order in orders])
    numbered = np.stack([rank[column] for rank, column in zip(ranks, codes.T, strict=True)], axis=1)
    return numbered, np.stack([codebooks[book, orders[book]] for book in range(books)])


def decode(meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]) -> list[npt.NDArray[Any]]:
    books, size, width = meta["shape"]
    kind, per_channel, masked = meta["kind"], meta["per_channel"], bool(meta["masked"])
    if len(streams) != 3 + masked or kind not in ("additive", "product") or min(books, size, width) < 1:
        raise BitstreamError("a codebook part is malformed: the file is damaged")
    values = from_floats(streams[0], meta["dtype"])
    if values.size != books * size * width or len(meta["packed"]) != books or len(per_channel) != len(shapes):
        raise BitstreamError("the codebooks do not have the sizes in the header: the file is damaged")
    if any(p and not shape for p, shape in zip(per_channel, shapes, strict=True)):
        raise BitstreamError("a scale per channel is given for a tensor without channels: the file is damaged")
    masks: list[npt.NDArray[np.bool_] | None] = [None] * len(shapes)
    if masked:
        masks = [as_bits(values) for values in integers.decode(meta.get("masks", {}), streams[3], shapes)]
    dimension = width if kind == "additive" else books * width
    sizes = [math.prod(s) if m is None else int(m.sum()) for s, m in zip(shapes, masks, strict=True)]
    counts = [-(-n // dimension) for n in sizes]
    count, read = sum(counts), sum(map(len, streams))
    if books * width * count > ADDITIONS_PER_VALUE * sum(map(math.prod, shapes)) + ADDITIONS_PER_BYTE * read:
        msg = (
            f"{books} codebooks for {count} vectors are too much work for {read} bytes: the file is damaged or hostile"
        )
        raise BitstreamError(msg)
    if meta.get(integers.ADAPTIVE):
        if books * count > CODES_PER_VALUE * sum(map(math.prod, shapes)) + FEW_CODES:
            raise BitstreamError("a codebook part has too many codes for its values: the file is damaged or hostile")
        (codes,) = integers.decode(meta, streams[2], [(books, count)])
        columns = iter(check_indices(codes, size))
    else:
        columns = (
            decode_indices(bool(packed), block, count, size)
            for packed, block in zip(meta["packed"], split_blocks(streams[2], books), strict=True)
        )
    flat = _joined(columns, values.reshape(books, size, width), count, kind)
    scales = _scales(streams[1], per_channel, shapes)
    pieces = np.split(flat, np.cumsum(counts)[:-1])
    return [
        tensor(piece.reshape(-1), shape, scale, mask)
        for piece, shape, scale, mask in zip(pieces, shapes, scales, masks, strict=True)
    ]


def _scales(stream: bytes, per_channel: Sequence[bool], shapes: Sequence[tuple[int, ...]]) -> list[Floats]:
    counts = [shape[0] if p else 1 for p, shape in zip(per_channel, shapes, strict=True)]
    values = from_floats(stream, "float32")
    if values.size != sum(counts):
        raise BitstreamError("a codebook part has the wrong number of scales: the file is damaged")
    pieces = np.split(values, np.cumsum(counts)[:-1])
    return [piece if p else piece.reshape(()) for piece, p in zip(pieces, per_channel, strict=True)]
