"""Boolean tensors (gates, channel masks), entropy coded with their own frequency or by context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.bitstream import integers
from benchmarks.bitstream.entropy import as_bits
from methods.interface import Coded, Part, Role

NAME = "mask"


def part(targets: Sequence[str], values: Sequence[npt.ArrayLike], role: Role = "indices") -> Part:
    """Code `values` (one boolean array per target)."""
    return Part(NAME, tuple(targets), role, {"values": [np.asarray(v, bool) for v in values]})


def encode(part: Part) -> Coded:
    bits = [values.astype(np.int64) for values in part.data["values"]]
    meta, stream = integers.shorter(bits, integers.encode_static(bits))
    return Coded(meta, ((part.role, stream),))


def decode(meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]) -> list[npt.NDArray[Any]]:
    (stream,) = streams
    return [as_bits(values) for values in integers.decode(meta, stream, shapes)]
