"""Floating-point values in fp32 or fp16: exact for fp32, rounded to nearest even for fp16."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.errors import BitstreamError
from methods.interface import Coded, Part, Role

NAME = "raw"
DTYPES = {"float32": "<f4", "float16": "<f2"}


def part(
    targets: Sequence[str],
    values: Sequence[npt.ArrayLike],
    role: Role,
    dtype: Literal["float32", "float16"] = "float32",
) -> Part:
    """Code `values` (one float array per target, finite, in range of `dtype`) with 4 or 2 bytes per value."""
    return Part(NAME, tuple(targets), role, {"values": [np.asarray(v, np.float32) for v in values], "dtype": dtype})


def to_floats(values: npt.NDArray[Any], dtype: str, what: str) -> bytes:
    """Little-endian bytes of finite values; raises BitstreamError for NaN, infinity or overflow of fp16."""
    with np.errstate(over="ignore"):
        coded = values.astype(DTYPES[dtype])
    if not np.isfinite(coded).all():
        cause = f"values beyond the range of {dtype}" if np.isfinite(values).all() else "NaN or infinite values"
        msg = f"{what} holds {cause}: it can't be written; check the network that the method produced"
        raise BitstreamError(msg)
    return coded.tobytes()


def from_floats(data: bytes, dtype: str) -> npt.NDArray[np.float32]:
    """Inverse of `to_floats`, as fp32; raises BitstreamError for bytes that `to_floats` can't have written."""
    if dtype not in DTYPES:
        msg = f"raw values of unknown type {dtype!r}: the file is damaged"
        raise BitstreamError(msg)
    if len(data) % np.dtype(DTYPES[dtype]).itemsize:
        raise BitstreamError("a stream of raw values has a broken length: the file is damaged")
    values = np.frombuffer(data, DTYPES[dtype]).astype(np.float32)
    if not np.isfinite(values).all():
        raise BitstreamError("a stream of raw values holds NaN or infinity: the file is damaged")
    return values


def split(flat: npt.NDArray[Any], shapes: Sequence[tuple[int, ...]]) -> list[npt.NDArray[Any]]:
    """Cut a flat array into arrays of `shapes`; raises BitstreamError unless the sizes add up exactly."""
    sizes = [math.prod(shape) for shape in shapes]
    if flat.size != sum(sizes):
        msg = f"a part holds {flat.size} values where its tensors need {sum(sizes)}: the file is damaged"
        raise BitstreamError(msg)
    pieces = np.split(flat, np.cumsum(sizes)[:-1]) if sizes else []
    return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]


def encode(part: Part) -> Coded:
    dtype = part.data["dtype"]
    blocks = (to_floats(v, dtype, t) for t, v in zip(part.targets, part.data["values"], strict=True))
    return Coded({"dtype": dtype}, ((part.role, b"".join(blocks)),))


def decode(meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]) -> list[npt.NDArray[Any]]:
    (stream,) = streams
    return split(from_floats(stream, meta["dtype"]), shapes)
