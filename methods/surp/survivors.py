"""Which entries of a pruned network survive: in one-by-one mode, SuRP codes these alone, after a mask that names them.

With the zeros, an index would cost log2(n / survivors) bits more in every step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.bitstream import integers
from benchmarks.bitstream.bytesio import Ints, join_blocks, split_blocks
from benchmarks.bitstream.entropy import as_bits, decode_bits, encode_bits
from benchmarks.errors import BitstreamError


def pack(kept: Ints, sizes: Sequence[int]) -> tuple[dict[str, bool], tuple[bytes, ...]]:
    """(entries of the header, streams): the ascending indices `kept` as a mask for each tensor; no stream if all are kept."""
    if len(kept) == sum(sizes):
        return {}, ()
    alive = np.zeros(sum(sizes), bool)
    alive[kept] = True
    masks = np.split(alive, np.cumsum(sizes)[:-1])
    static = join_blocks(b"" if mask.all() else encode_bits(mask) for mask in masks)
    meta, stream = integers.shorter([mask.astype(np.int64) for mask in masks], static)
    return meta, (stream,)


def unpack(meta: Mapping[str, Any], streams: Sequence[bytes], shapes: Sequence[tuple[int, ...]]) -> Ints:
    """Inverse of `pack`."""
    sizes = [math.prod(shape) for shape in shapes]
    if not streams:
        return np.arange(sum(sizes))
    if len(streams) > 1:
        raise BitstreamError("a SuRP part has too many streams: the file is damaged")
    if meta.get(integers.ADAPTIVE):
        found = integers.decode(meta, streams[0], [(size,) for size in sizes])
        return np.flatnonzero(np.concatenate([as_bits(values) for values in found]))
    masks = [
        decode_bits(block, size) if block else np.ones(size, bool)
        for block, size in zip(split_blocks(streams[0], len(sizes)), sizes, strict=True)
    ]
    return np.flatnonzero(np.concatenate(masks))
