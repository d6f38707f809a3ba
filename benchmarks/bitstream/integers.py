"""One stream for the integer tensors of a part: what the codec writes otherwise or, where that is shorter, context-coded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from benchmarks.bitstream import context
from benchmarks.bitstream.bytesio import Ints, join_blocks, split_blocks
from benchmarks.bitstream.entropy import decode_integers, encode_integers

ADAPTIVE = "adaptive"  # True in the header of a part whose integers are context-coded


def shorter(tensors: Sequence[npt.NDArray[Any]], static: bytes) -> tuple[dict[str, bool], bytes]:
    """(entries of the header, stream): `static`, or the context-coded stream of all `tensors` if that has fewer bytes."""
    adaptive = context.encode_tensors(tensors)
    return ({}, static) if adaptive is None or len(static) <= len(adaptive) else ({ADAPTIVE: True}, adaptive)


def encode_static(tensors: Sequence[npt.NDArray[Any]]) -> bytes:
    """A block for each tensor, with its own static frequencies."""
    return join_blocks(map(encode_integers, tensors))


def decode(meta: Mapping[str, Any], stream: bytes, shapes: Sequence[tuple[int, ...]]) -> Iterator[Ints]:
    """The tensors of a stream of `shorter` or `encode_static`; raises BitstreamError for one that it can't have written."""
    if meta.get(ADAPTIVE):
        yield from context.decode_tensors(stream, shapes)
        return
    for shape, block in zip(shapes, split_blocks(stream, len(shapes)), strict=True):
        yield decode_integers(block, math.prod(shape)).reshape(shape)
