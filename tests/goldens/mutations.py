"""Random damage to files, sealed again with a valid checksum so that the decoder sees it."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from goldens.hostile import deflated, opened, sealed

Mutation = Callable[[list[Any], bytes, random.Random], tuple[bytes, bytes]]

HOSTILE: list[Any] = [
    None,
    True,
    "",
    "x",
    "uniform",
    "0.weight",
    b"ab",
    [],
    {},
    [[]],
    [None] * 17,
    {"a": []},
    "a" * 999,
]
HOSTILE += [-1, 0, 1, 2, 7, 255, 1023, 2**20, 2**31, 2**40, 2**60, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)]
HOSTILE += [0.5, -1e300, 1e38, 1e300, float("inf"), float("nan"), msgspec.msgpack.Ext(5, b"x")]


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) below a node."""
    for key in range(len(node)) if isinstance(node, list) else list(node) if isinstance(node, dict) else ():
        yield node, key
        yield from _places(node[key])


def _changed(data: bytes, r: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(r.choice((1, 1, 2, 4, 16)) if out else 0):
        at = r.randrange(len(out))
        out[at] = r.choice((r.randrange(256), out[at] ^ 1 << r.randrange(8), 0, 0x7F, 0x80, 0xFF))
    return bytes(out)


def in_header_bytes(header: list[Any], payload: bytes, r: random.Random) -> tuple[bytes, bytes]:
    return _changed(msgspec.msgpack.encode(header), r), payload


def in_header_values(header: list[Any], payload: bytes, r: random.Random) -> tuple[bytes, bytes]:
    """Another type or an extreme, a neighbouring number, a value from elsewhere, an entry more or fewer."""
    for _ in range(r.choice((1, 1, 2, 3))):
        places = list(_places(header))
        (node, key), (other, where) = r.choice(places), r.choice(places)
        way = r.randrange(4)
        if way == 0:
            node[key] = copy.deepcopy(other[where])
        elif way == 1 and type(node[key]) in (int, float) and abs(node[key]) < 2**60:
            node[key] += r.choice((-1, 1, 2, 100))
        elif way == 2 and isinstance(node, list):
            node.insert(key, copy.deepcopy(node[key])) if r.random() < 0.5 else node.pop(key)
        else:
            node[key] = copy.deepcopy(r.choice(HOSTILE))
    return msgspec.msgpack.encode(header), payload


def in_streams(header: list[Any], payload: bytes, r: random.Random) -> tuple[bytes, bytes]:
    """Change, cut, lengthen or replace one stream; its length in the header stays true."""
    sizes = [size for part in header[4] for size in part[3]]
    ends = [sum(size for _, size in sizes[: i + 1]) for i in range(len(sizes))]
    chosen = r.choice([i for i, (_, size) in enumerate(sizes) if size])
    start, length = ends[chosen] - sizes[chosen][1], sizes[chosen][1]
    stream = payload[start : start + length]
    first = min(length, r.choice((4, 16, 64)))
    way, at = r.randrange(6), r.randrange(length)
    stream = [
        _changed(stream[:first], r) + stream[first:],
        _changed(stream[:first], r) + stream[first:],
        _changed(stream, r),
        stream[:at],
        stream[:at] + r.randbytes(r.choice((1, 2, 8))) + stream[at:],
        r.randbytes(length),
    ][way]
    sizes[chosen][1] = len(stream)
    return msgspec.msgpack.encode(header), payload[:start] + stream + payload[start + length :]


MUTATIONS: tuple[Mutation, ...] = (in_header_bytes, in_header_values, in_streams)


def resealed(data: bytes, r: random.Random) -> bytes:
    """A file with some damage to its header or to one of its streams."""
    header, payload = opened(data)
    possible = MUTATIONS if payload else MUTATIONS[:2]
    return seal(r.choice(possible), header, payload, r)


def seal(mutation: Mutation, header: list[Any], payload: bytes, r: random.Random) -> bytes:
    plain, changed = mutation(header, payload, r)
    return sealed(deflated(plain), changed)
