"""Uniform reconstruction: integer codes times a step, per tensor or per output channel, entropy coded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.bitstream import integers
from benchmarks.bitstream.codecs.raw import from_floats, to_floats
from benchmarks.errors import BitstreamError
from methods.interface import Coded, Part, Role

NAME = "uniform"
Floats = npt.NDArray[np.float32]


def quantise(values: npt.ArrayLike, step: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], Floats]:
    """Nearest codes of `values` on the grid of `step`: a scalar, or one step per slice of the first axis.

    Returns int64 codes shaped like `values` and the step as fp32: exactly the numbers that the decoder uses.
    """
    array = np.asarray(values, np.float32)
    steps = np.asarray(step, np.float32)
    return np.rint(array / _along_first(steps, array.ndim)).astype(np.int64), steps


def dequantise(codes: npt.NDArray[np.int64], step: Floats) -> Floats:
    """Reconstructed values: the fp32 product, the same on every machine."""
    return codes.astype(np.float32) * _along_first(step, codes.ndim)


def _along_first(step: Floats, ndim: int) -> Floats:
    return step.reshape(step.shape + (1,) * (ndim - step.ndim))


def part(
    targets: Sequence[str],
    codes: Sequence[npt.ArrayLike],
    steps: Sequence[npt.ArrayLike],
    role: Role,
    adaptive: bool = True,
) -> Part:
    """Code `codes[i]` (integers shaped like target i) on step `steps[i]` (scalar or (channels,), fp32, finite).

    Without `adaptive`, only by static frequencies of each tensor.
    """
    return Part(
        NAME,
        tuple(targets),
        role,
        {
            "codes": [np.asarray(c, np.int64) for c in codes],
            "steps": [np.asarray(s, np.float32) for s in steps],
            "adaptive": adaptive,
        },
    )


def encode(part: Part) -> Coded:
    steps = part.data["steps"]
    floats = b"".join(to_floats(s, "float32", f"the step of {t}") for t, s in zip(part.targets, steps, strict=True))
    codes, meta = part.data["codes"], {"per_channel": [s.ndim == 1 for s in steps]}
    found: dict[str, bool] = {}
    stream = integers.encode_static(codes)
    if part.data["adaptive"]:
        found, stream = integers.shorter(codes, stream)
    return Coded({**meta, **found}, ((part.role, stream), (part.role, floats)))


def decode(meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]) -> list[npt.NDArray[Any]]:
    codes_stream, steps_stream = streams
    per_channel = meta["per_channel"]
    if len(per_channel) != len(shapes) or any(p and not s for p, s in zip(per_channel, shapes, strict=True)):
        raise BitstreamError("a uniform part has the wrong number of steps: the file is damaged")
    steps = from_floats(steps_stream, "float32")
    counts = [shape[0] if p else 1 for p, shape in zip(per_channel, shapes, strict=True)]
    if steps.size != sum(counts):
        raise BitstreamError("a uniform part has the wrong number of steps: the file is damaged")
    found = integers.decode(meta, codes_stream, shapes)
    return [
        dequantise(codes, step if p else step.reshape(()))
        for codes, step, p in zip(found, np.split(steps, np.cumsum(counts)[:-1]), per_channel, strict=True)
    ]
