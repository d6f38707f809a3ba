"""Uniform reconstruction as in `uniform`, with all tensors of the part in one context-coded stream where that is shorter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from benchmarks.bitstream.codecs import raw, uniform
from benchmarks.bitstream.context import decode_tensors, encode_tensors
from benchmarks.errors import BitstreamError
from methods.interface import Coded, Part, Role

NAME = "context"


def part(targets: Sequence[str], codes: Sequence[npt.ArrayLike], steps: Sequence[npt.ArrayLike], role: Role) -> Part:
    """Code `codes[i]` (integers shaped like target i) on step `steps[i]` (scalar or (channels,), fp32, finite)."""
    return Part(NAME, tuple(targets), role, uniform.part(targets, codes, steps, role).data)


def encode(part: Part) -> Coded:
    static = uniform.encode(part)
    (role, codes), steps = static.streams
    adaptive = encode_tensors(part.data["codes"])
    if adaptive is None or len(codes) <= len(adaptive):
        return Coded({**static.meta, "adaptive": False}, static.streams)
    return Coded({**static.meta, "adaptive": True}, ((role, adaptive), steps))


def decode(meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]) -> list[npt.NDArray[Any]]:
    codes_stream, steps_stream = streams
    if not meta["adaptive"]:
        return uniform.decode(meta, streams, shapes)
    per_channel = meta["per_channel"]
    if len(per_channel) != len(shapes) or any(p and not s for p, s in zip(per_channel, shapes, strict=True)):
        raise BitstreamError("a context part has the wrong number of steps: the file is damaged")
    steps = raw.split(
        raw.from_floats(steps_stream, "float32"), [s[:1] if p else () for p, s in zip(per_channel, shapes, strict=True)]
    )
    codes = decode_tensors(codes_stream, shapes)
    return [uniform.dequantise(own, step) for own, step in zip(codes, steps, strict=True)]
