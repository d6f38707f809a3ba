"""Sparse tensors: the support as an entropy-coded bit mask, then the values on it, quantised or raw fp16/fp32."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.bitstream.bytesio import join_blocks, split_blocks
from benchmarks.bitstream.codecs.raw import from_floats, to_floats
from benchmarks.bitstream.codecs.uniform import dequantise
from benchmarks.bitstream.entropy import decode_bits, decode_integers, encode_bits, encode_integers
from benchmarks.errors import BitstreamError
from methods.interface import Coded, Part, Role

NAME = "sparse"
Kind = Literal["uniform", "float16", "float32"]


def part(
    targets: Sequence[str],
    values: Sequence[npt.ArrayLike],
    role: Role,
    steps: Sequence[float] | None = None,
    dtype: Literal["float16", "float32"] = "float16",
) -> Part:
    """Code `values` (arrays shaped like their targets, mostly zero).

    With `steps` (one fp32 step per target) the values are *integer codes* on that step; without, they are floats and
    stored in `dtype`. A zero is outside the support in both cases.
    """
    kind: Kind = dtype if steps is None else "uniform"
    arrays = [np.asarray(v, np.float32 if steps is None else np.int64) for v in values]
    data = {"values": arrays, "kind": kind, "steps": np.asarray([] if steps is None else steps, np.float32)}
    return Part(NAME, tuple(targets), role, data)


def encode(part: Part) -> Coded:
    kind, arrays = part.data["kind"], part.data["values"]
    masks = [encode_bits(a != 0) for a in arrays]
    kept = [a[a != 0] for a in arrays]
    if kind == "uniform":
        blocks = [encode_integers(k) for k in kept]
    else:
        blocks = [to_floats(k, kind, t) for t, k in zip(part.targets, kept, strict=True)]
    steps = to_floats(part.data["steps"], "float32", f"a step of {part.targets[0]}")
    return Coded(
        {"kind": kind},
        (
            ("indices", join_blocks(masks)),
            (part.role, join_blocks(blocks)),
            (part.role, steps),
        ),
    )


def decode(meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]) -> list[npt.NDArray[Any]]:
    mask_stream, value_stream, step_stream = streams
    kind = meta["kind"]
    steps = from_floats(step_stream, "float32")
    if steps.size != (len(shapes) if kind == "uniform" else 0):
        raise BitstreamError("a sparse part has the wrong number of steps: the file is damaged")
    masks, blocks = split_blocks(mask_stream, len(shapes)), split_blocks(value_stream, len(shapes))
    out = []
    for i, shape in enumerate(shapes):
        support = decode_bits(masks[i], math.prod(shape)).reshape(shape)
        kept = int(support.sum())
        if kind == "uniform":
            values = dequantise(decode_integers(blocks[i], kept), steps[i])
        else:
            values = from_floats(blocks[i], kind)
        if values.size != kept:
            raise BitstreamError("a sparse part has more or fewer values than its support: the file is damaged")
        array = np.zeros(shape, np.float32)
        array[support] = values
        out.append(array)
    return out
