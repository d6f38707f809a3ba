"""Tensors with one value everywhere (e.g. the running mean of a folded BatchNorm), without payload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.errors import BitstreamError
from methods.interface import Coded, Part, Role

NAME = "constant"


def part(targets: Sequence[str], value: float, role: Role) -> Part:
    """Fill every target with `value` (rounded to fp32)."""
    return Part(NAME, tuple(targets), role, {"value": float(np.float32(value))})


def encode(part: Part) -> Coded:
    if not np.isfinite(part.data["value"]):
        msg = f"{part.targets[0]} can't be filled with {part.data['value']}: only finite values can be written"
        raise BitstreamError(msg)
    return Coded({"value": part.data["value"]}, ())


def decode(meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]) -> list[npt.NDArray[Any]]:
    if streams or not np.isfinite(meta["value"]):
        raise BitstreamError("a constant part is malformed: the file is damaged")
    return [np.full(shape, meta["value"], np.float32) for shape in shapes]
