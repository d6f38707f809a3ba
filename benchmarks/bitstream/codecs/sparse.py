"""Sparse tensors: the support as an entropy-coded bit mask, then the values on it, quantised or raw fp16/fp32.

Quantised values are context-coded together with the zeros between them, where that is shorter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.bitstream import integers
from benchmarks.bitstream.bytesio import join_blocks, split_blocks
from benchmarks.bitstream.codecs.raw import from_floats, to_floats
from benchmarks.bitstream.codecs.uniform import dequantise
from benchmarks.bitstream.entropy import as_bits, decode_integers, encode_integers
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
    kept = [a[a != 0] for a in arrays]
    masks = [(a != 0).astype(np.int64) for a in arrays]
    support = integers.encode_static(masks)
    found: dict[str, bool] = {}
    steps = to_floats(part.data["steps"], "float32", f"a step of {part.targets[0]}")
    if kind == "uniform":
        values = join_blocks(map(encode_integers, kept))
        found, whole = integers.shorter(arrays, support + values)
        if found:
            support, values = b"", whole
    else:
        values = join_blocks(to_floats(k, kind, t) for t, k in zip(part.targets, kept, strict=True))
        found, support = integers.shorter(masks, support)
    return Coded({"kind": kind, **found}, (("indices", support), (part.role, values), (part.role, steps)))


def decode(meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]) -> list[npt.NDArray[Any]]:
    mask_stream, value_stream, step_stream = streams
    kind = meta["kind"]
    steps = from_floats(step_stream, "float32")
    if steps.size != (len(shapes) if kind == "uniform" else 0):
        raise BitstreamError("a sparse part has the wrong number of steps: the file is damaged")
    if kind == "uniform" and meta.get(integers.ADAPTIVE):
        if mask_stream:
            raise BitstreamError("a sparse part has its support twice: the file is damaged")
        found = integers.decode(meta, value_stream, shapes)
        return [dequantise(codes, step) for codes, step in zip(found, steps, strict=True)]
    blocks = split_blocks(value_stream, len(shapes))
    out = []
    for i, mask in enumerate(integers.decode(meta, mask_stream, shapes)):
        support = as_bits(mask)
        kept = int(support.sum())
        if kind == "uniform":
            values = dequantise(decode_integers(blocks[i], kept), steps[i])
        else:
            values = from_floats(blocks[i], kind)
        if values.size != kept:
            raise BitstreamError("a sparse part has more or fewer values than its support: the file is damaged")
        array = np.zeros(shapes[i], np.float32)
        array[support] = values
        out.append(array)
    return out
