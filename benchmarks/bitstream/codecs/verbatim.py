"""Bytes as they are: what another program has compressed, e.g. a JPEG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.errors import BitstreamError
from methods.interface import Coded, Part, Role

NAME = "verbatim"


def part(target: str, data: bytes, role: Role = "weights") -> Part:
    """Fill `target`, uint8 (len(data),), with `data`."""
    return Part(NAME, (target,), role, {"data": data})


def encode(part: Part) -> Coded:
    return Coded({}, ((part.role, part.data["data"]),))


def decode(
    meta: Mapping[str, Any], streams: Sequence[bytes], shapes: Sequence[tuple[int, ...]]
) -> list[npt.NDArray[np.uint8]]:
    (stream,), (shape,) = streams, shapes
    if shape != (len(stream),):
        msg = f"a stream of {len(stream)} bytes is to fill a tensor of the shape {shape}: the file is damaged"
        raise BitstreamError(msg)
    return [np.frombuffer(bytearray(stream), np.uint8)]
