"""Streams of integer indices (gathered channels, positions, codewords): entropy coded, or bit-packed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.bitstream import integers
from benchmarks.bitstream.bytesio import join_blocks, read_fixed, split_blocks, write_fixed
from benchmarks.bitstream.entropy import decode_integers, encode_integers
from benchmarks.errors import BitstreamError
from methods.interface import Coded, Part, Role

NAME = "index"


def part(targets: Sequence[str], values: Sequence[npt.ArrayLike], limit: int, role: Role = "indices") -> Part:
    """Code `values` (one integer array per target, entries in [0, limit))."""
    return Part(NAME, tuple(targets), role, {"values": [np.asarray(v, np.int64) for v in values], "limit": int(limit)})


def encode_indices(values: npt.NDArray[np.int64], limit: int) -> tuple[bool, bytes]:
    """(packed?, bytes) of the shorter of fixed-width packing and entropy coding."""
    flat = values.reshape(-1)
    width = max(limit - 1, 0).bit_length()
    packed = write_fixed(flat, width)
    coded = encode_integers(flat)
    return (True, packed) if len(packed) <= len(coded) else (False, coded)


def decode_indices(packed: bool, data: bytes, count: int, limit: int) -> npt.NDArray[np.int64]:
    """Inverse of `encode_indices`."""
    width = max(limit - 1, 0).bit_length()
    return check_indices(read_fixed(data, count, width) if packed else decode_integers(data, count), limit)


def check_indices(values: npt.NDArray[np.int64], limit: int) -> npt.NDArray[np.int64]:
    """Decoded indices; raises BitstreamError for one of `limit` or more."""
    if values.size and (int(values.min()) < 0 or int(values.max()) >= limit):
        msg = f"an index is outside [0, {limit}): the file is damaged"
        raise BitstreamError(msg)
    return values


def encode(part: Part) -> Coded:
    limit = part.data["limit"]
    for target, values in zip(part.targets, part.data["values"], strict=True):
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < limit:
            msg = f"{target} has indices outside [0, {limit}): they can't be written"
            raise BitstreamError(msg)
    coded = [encode_indices(v, limit) for v in part.data["values"]]
    found, stream = integers.shorter(part.data["values"], join_blocks(data for _, data in coded))
    return Coded({"limit": limit, "packed": [packed for packed, _ in coded], **found}, ((part.role, stream),))


def decode(meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]) -> list[npt.NDArray[Any]]:
    (stream,) = streams
    limit, packed = int(meta["limit"]), meta["packed"]
    if len(packed) != len(shapes) or not 0 <= limit <= 2**31:
        raise BitstreamError("an index part is malformed: the file is damaged")
    if meta.get(integers.ADAPTIVE):
        return [check_indices(values, limit) for values in integers.decode(meta, stream, shapes)]
    blocks = split_blocks(stream, len(shapes))
    return [
        decode_indices(bool(p), b, math.prod(s), limit).reshape(s)
        for p, b, s in zip(packed, blocks, shapes, strict=True)
    ]
