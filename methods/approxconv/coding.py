"""The codec of kernels: coefficients by another codec, and the filters of a basis that no formula gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy.typing as npt

from benchmarks.bitstream import codecs
from benchmarks.bitstream.codecs.raw import from_floats, to_floats
from benchmarks.bitstream.codecs.raw import split as cut
from benchmarks.errors import BitstreamError
from methods.approxconv.bases import LARGEST, Approximation
from methods.interface import Coded, Part

STREAMS = {"raw": 1, "uniform": 2, "approxconv.minifloat": 2}  # of the codecs that coefficients may have
KINDS = ("cosine", "chebyshev", "dct", "pca")
MOST = 2**30  # values of all kernels of a part, each times the terms of its sum


def part(targets: Sequence[str], found: Sequence[Approximation], coefficients: Part) -> Part:
    """Code kernels by their `coefficients`, a part with one tensor (O, I, order, order) per target. All have one basis."""
    data = {"coefficients": coefficients, "kind": found[0].kind, "orders": [f.order for f in found]}
    data["shapes"] = [(*f.coefficients.shape[:2], f.size, f.size) for f in found]
    return Part("approxconv.kernels", tuple(targets), "weights", data | {"filters": [f.own for f in found]})


def encode(part: Part) -> Coded:
    inner = part.data["coefficients"]
    kind, orders, shapes = (part.data[name] for name in ("kind", "orders", "shapes"))
    if max(shape[-1] for shape in shapes) > LARGEST or operations(kind, orders, shapes) > MOST:
        msg = f"kernels that begin with {part.targets[0]} are above what a file may have: windows of {LARGEST} pixels a side"
        msg += f" and {MOST:,} terms in all sums; approximate fewer layers"
        raise BitstreamError(msg)
    coded = codecs.get(inner.codec).encode(inner)
    meta = {"codec": inner.codec, "meta": dict(coded.meta), "kind": kind, "orders": orders}
    if kind != "pca":
        return Coded(meta, coded.streams)
    own = zip(part.targets, part.data["filters"], strict=True)
    filters = b"".join(to_floats(values, "float32", f"the basis of {target}") for target, values in own)
    return Coded(meta, (*coded.streams, ("codebooks", filters)))


def decode(meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]) -> list[npt.NDArray[Any]]:
    count = STREAMS.get(meta["codec"])
    stored = meta["kind"] == "pca"
    if count is None or meta["kind"] not in KINDS or len(streams) != count + stored:
        raise BitstreamError(
            "a part of approximated kernels names what does not exist, or lacks a stream: it is damaged"
        )
    orders = meta["orders"]
    for order, shape in zip(orders, shapes, strict=True):
        if len(shape) != 4 or shape[2] != shape[3] or type(order) is not int or not 1 <= order <= shape[2] <= LARGEST:
            msg = f"a kernel of shape {shape} has no approximation of order {order}: the file is damaged"
            raise BitstreamError(msg)
    if operations(meta["kind"], orders, shapes) > MOST:
        msg = f"a part of approximated kernels has more than {MOST:,} terms in its sums: it is damaged"
        raise BitstreamError(msg)
    small = [(*shape[:2], order, order) for order, shape in zip(orders, shapes, strict=True)]
    coefficients = codecs.get(meta["codec"]).decode(meta["meta"], streams[:count], small)
    own: Sequence[Any] = [None] * len(shapes)
    if stored:
        sizes = [(order**2, shape[2] ** 2) for order, shape in zip(orders, shapes, strict=True)]
        own = cut(from_floats(streams[-1], "float32"), sizes)
    return [
        Approximation(values, meta["kind"], shape[2], filters).kernel()
        for values, shape, filters in zip(coefficients, shapes, own, strict=True)
    ]


def operations(kind: str, orders: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> int:
    """The terms of all values: one for each stored filter, or for each function along either side."""
    terms = (order**2 if kind == "pca" else 2 * order for order in orders)
    return sum(count * math.prod(shape) for count, shape in zip(terms, shapes, strict=True))


CODECS = {"kernels": SimpleNamespace(part=part, encode=encode, decode=decode)}
