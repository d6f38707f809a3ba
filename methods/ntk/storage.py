"""Codecs of ternary tensors: two bits for each weight, or the seed from which all weights are drawn again.

Both decode to the codes −1, 0 and 1 times a magnitude in fp32 for each tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.bitstream.bytesio import Reader, join_blocks, split_blocks, varints
from benchmarks.bitstream.codecs.raw import from_floats, to_floats
from benchmarks.errors import BitstreamError
from methods.interface import Coded, Part
from methods.ntk import weights
from methods.ntk.weights import Codes

_SHIFTS = np.arange(0, 8, 2, dtype=np.uint8)
_VALUES = np.array([0, 1, -1, 2], np.int8)  # of two bits; the last is none


def packed_part(targets: Sequence[str], codes: Sequence[Codes], magnitudes: Sequence[float]) -> Part:
    """Code integers −1, 0 and 1 (one array per target) times a magnitude per target, four in each byte."""
    data = {"codes": [np.asarray(c, np.int8) for c in codes], "magnitudes": np.asarray(magnitudes, np.float32)}
    return Part("ntk.packed", tuple(targets), "weights", data)


def seeded_part(targets: Sequence[str], draws: Sequence[tuple[int, int, int]], magnitudes: Sequence[float]) -> Part:
    """Code what `weights.ternary` draws from (plus, minus, seed) for each target, times a magnitude per target."""
    return Part(
        "ntk.seeded", tuple(targets), "weights", {"draws": draws, "magnitudes": np.asarray(magnitudes, np.float32)}
    )


def _encode_packed(part: Part) -> Coded:
    return Coded({}, (("weights", join_blocks(map(pack, part.data["codes"]))), _magnitudes(part)))


def _decode_packed(
    meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]
) -> list[npt.NDArray[Any]]:
    stream, floats = streams
    magnitudes = _read_magnitudes(floats, len(shapes))
    blocks = split_blocks(stream, len(shapes))
    return [
        unpack(block, math.prod(shape)).reshape(shape) * magnitude
        for block, shape, magnitude in zip(blocks, shapes, magnitudes, strict=True)
    ]


def pack(codes: Codes) -> bytes:
    """Two bits for each code, the first in the lowest bits of a byte: 0, 1, and 2 for −1."""
    fields = np.zeros(-(-codes.size // 4) * 4, np.uint8)
    fields[: codes.size] = np.where(codes < 0, 2, codes).reshape(-1)
    octets: npt.NDArray[np.uint8] = np.bitwise_or.reduce(fields.reshape(-1, 4) << _SHIFTS, axis=1)
    return octets.tobytes()


def unpack(data: bytes, count: int) -> Codes:
    """Inverse of `pack`; raises BitstreamError for bytes that it can't have written."""
    if len(data) != -(-count // 4):
        msg = f"{len(data)} bytes can't hold exactly {count} ternary weights: the file is damaged"
        raise BitstreamError(msg)
    fields = (np.frombuffer(data, np.uint8)[:, None] >> _SHIFTS & 3).reshape(-1)
    if fields[count:].any() or (fields == 3).any():
        raise BitstreamError("a stream of ternary weights has a field that no weight has: the file is damaged")
    found: Codes = _VALUES[fields[:count]]
    return found


def _encode_seeded(part: Part) -> Coded:
    numbers = varints(number for draw in part.data["draws"] for number in draw)
    return Coded({}, (("weights", numbers), _magnitudes(part)))


def _decode_seeded(
    meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]
) -> list[npt.NDArray[Any]]:
    stream, floats = streams
    magnitudes = _read_magnitudes(floats, len(shapes))
    reader = Reader(stream)
    found = []
    for shape, magnitude in zip(shapes, magnitudes, strict=True):
        size = math.prod(shape)
        plus, minus, seed = reader.varint(size + 1), reader.varint(size + 1), reader.varint()
        if plus + minus > size:
            msg = f"a seed promises {plus + minus} weights in a tensor of {size}: the file is damaged"
            raise BitstreamError(msg)
        found.append(weights.ternary(size, plus, minus, seed).reshape(shape) * magnitude)
    reader.end()
    return found


def _magnitudes(part: Part) -> tuple[Any, bytes]:
    return "weights", to_floats(part.data["magnitudes"], "float32", f"the magnitude of {part.targets[0]}")


def _read_magnitudes(data: bytes, count: int) -> npt.NDArray[np.float32]:
    found = from_floats(data, "float32")
    if found.size != count:
        raise BitstreamError("a ternary part has the wrong number of magnitudes: the file is damaged")
    return found


CODECS = {
    "packed": SimpleNamespace(part=packed_part, encode=_encode_packed, decode=_decode_packed),
    "seeded": SimpleNamespace(part=seeded_part, encode=_encode_seeded, decode=_decode_seeded),
}
