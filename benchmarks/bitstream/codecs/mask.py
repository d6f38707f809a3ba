"""Boolean tensors (gates, channel masks), entropy coded with their own frequency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.bitstream.bytesio import join_blocks, split_blocks
from benchmarks.bitstream.entropy import decode_bits, encode_bits
from methods.interface import Coded, Part, Role

NAME = "mask"


def part(targets: Sequence[str], values: Sequence[npt.ArrayLike], role: Role = "indices") -> Part:
    """Code `values` (one boolean array per target)."""
    return Part(NAME, tuple(targets), role, {"values": [np.asarray(v, bool) for v in values]})


def encode(part: Part) -> Coded:
    return Coded({}, ((part.role, join_blocks(map(encode_bits, part.data["values"]))),))


def decode(meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]) -> list[npt.NDArray[Any]]:
    (stream,) = streams
    blocks = split_blocks(stream, len(shapes))
    return [decode_bits(b, math.prod(s)).reshape(s) for b, s in zip(blocks, shapes, strict=True)]
