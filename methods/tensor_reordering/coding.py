"""The codec: coefficients by a codec of the suite, and each permutation in the bits that an index needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.bitstream import codecs
from benchmarks.bitstream.bytesio import Ints, join_blocks, read_fixed, split_blocks, write_fixed
from benchmarks.errors import BitstreamError
from methods.interface import Coded, Part
from methods.tensor_reordering.transform import Reordered

MOST_ROWS = 64  # of a reshaped weight


def part(targets: Sequence[str], found: Sequence[Reordered], coefficients: Part) -> Part:
    """Code weights by their `coefficients`, a part with one matrix (g, t) per target, and the orders of columns of `found`.

    Either all weights have an order of their own, or none has.
    """
    data = {"coefficients": coefficients, "groups": [len(f.coefficients) for f in found]}
    data |= {"kept": [f.coefficients.shape[1] for f in found], "inverses": [f.inverse for f in found]}
    return Part("tensor_reordering.reordered", tuple(targets), "weights", data)


def encode(part: Part) -> Coded:
    inner = part.data["coefficients"]
    coded = codecs.get(inner.codec).encode(inner)
    inverses = [inverse for inverse in part.data["inverses"] if inverse is not None]
    indices = join_blocks(write_fixed(inverse, _width(len(inverse))) for inverse in inverses)
    meta = {"codec": inner.codec, "meta": dict(coded.meta), "groups": part.data["groups"], "kept": part.data["kept"]}
    return Coded(meta, (*coded.streams, *([("indices", indices)] if inverses else [])))  # type: ignore[arg-type]


def decode(meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]) -> list[npt.NDArray[Any]]:
    own = {"raw": 1, "uniform": 2}.get(meta["codec"])  # streams
    if own is None or not own <= len(streams) <= own + 1:
        raise BitstreamError(
            "a part of reordered weights has another codec or other streams than it may: it is damaged"
        )
    columns = []
    for groups, kept, shape in zip(meta["groups"], meta["kept"], shapes, strict=True):
        size = math.prod(shape)
        if not _is_row_count(groups) or size % groups or type(kept) is not int or not 1 <= kept <= size // groups:
            msg = f"{groups} × {kept} coefficients don't give a weight of {size} values: the file is damaged"
            raise BitstreamError(msg)
        columns.append(size // groups)
    matrices: list[tuple[int, ...]] = list(zip(meta["groups"], meta["kept"], strict=True))
    coefficients = codecs.get(meta["codec"]).decode(meta["meta"], streams[:own], matrices)
    blocks = split_blocks(streams[own], len(shapes)) if len(streams) > own else [None] * len(shapes)
    inverses = [None if block is None else _permutation(block, n) for block, n in zip(blocks, columns, strict=True)]
    found = zip(coefficients, inverses, shapes, strict=True)
    return [Reordered(values, inverse, shape).weight() for values, inverse, shape in found]


def _is_row_count(groups: Any) -> bool:
    return type(groups) is int and 1 <= groups <= MOST_ROWS


def _width(count: int) -> int:
    """The bits of an index below `count`."""
    return max(count - 1, 0).bit_length()


def _permutation(block: bytes, count: int) -> Ints:
    inverse = read_fixed(block, count, _width(count))
    if not (inverse < count).all() or not (np.bincount(inverse, minlength=count) == 1).all():
        raise BitstreamError("the order of a weight's columns is no permutation: the file is damaged")
    return inverse


CODECS = {"reordered": SimpleNamespace(part=part, encode=encode, decode=decode)}
