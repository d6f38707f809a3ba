"""The file: magic, version, a compressed typed header, payload streams and a checksum of all preceding bytes.

    offset  size  what
    0       4     magic "\\x89RBN"
    4       2     format version, little-endian
    6       4     length of the compressed header, little-endian
    10      …     header: MessagePack of `Header`, deflated (raw deflate, level 9)
    …       …     the streams of all parts, in the order of the header
    -8      8     BLAKE2b-64 of everything before

`decode` needs only these bytes and this package: no reference network, dataset, configuration or pickle.

What decoding costs is bounded before anything is allocated. A file promises at most ELEMENTS_PER_BYTE values per byte (2^20
values in any case), and at most GROWTH times as many as its architecture has. Memory is at most 1,024 bytes for each byte of
the file and 48 for each promised value, plus 128 MiB for the Python objects of the longest header. Work is linear in both, too.
In each process, the first file whose codec is compiled takes up to 256 MiB more, for the compiler.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from benchmarks.bitstream import blueprint, codecs
from benchmarks.bitstream.keys import check_keys
from benchmarks.errors import BitstreamError, first_line, in_short
from methods.interface import Compressed, ModuleSpec, Role

MAGIC = b"\x89RBN"
VERSION = 1
MAX_HEADER = 2**20  # uncompressed; one byte may become 64 bytes of Python objects
MAX_MODULES = 2**12  # of all edits: ResNet-101 has 344 modules
ELEMENTS_PER_BYTE = 1024  # 0.008 bits per weight: only a hostile file has fewer
_PREFIX = struct.Struct("<4sHI")
_CHECKSUM = 8


class PartEntry(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    codec: str
    targets: list[str]
    meta: dict[str, Any]
    streams: list[tuple[Role, int]]


class Header(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    architecture: str
    arguments: dict[str, Any]
    edits: dict[str, ModuleSpec]
    tied: dict[str, str]
    parts: list[PartEntry]


def encode(compressed: Compressed) -> bytes:
    """The file of a network; raises BitstreamError if the parts do not fill each of its tensors exactly once."""
    network = blueprint.skeleton(compressed.architecture, compressed.arguments, compressed.edits, compressed.tied)
    _check_targets(blueprint.state(network, compressed.tied), [part.targets for part in compressed.parts])
    entries, payload = [], []
    for part in compressed.parts:
        coded = codecs.get(part.codec).encode(part)
        sizes = [(role, len(stream)) for role, stream in coded.streams]
        entries.append(PartEntry(part.codec, list(part.targets), dict(coded.meta), sizes))
        payload += [stream for _, stream in coded.streams]
    header = Header(
        compressed.architecture,
        dict(compressed.arguments),
        dict(compressed.edits),
        dict(compressed.tied),
        entries,
    )
    plain = msgspec.msgpack.encode(header)
    if len(plain) >= MAX_HEADER:
        msg = f"the header would take {len(plain)} bytes, but has to be below {MAX_HEADER}: put large data into streams"
        raise BitstreamError(msg)
    check_keys(plain)
    packed = _deflate(plain)
    body = _PREFIX.pack(MAGIC, VERSION, len(packed)) + packed + b"".join(payload)
    return body + _digest(body)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Any exception becomes a BitstreamError of one line: a file may contain anything, so a codec may raise anything."""
    try:
        yield
    except BitstreamError as error:
        raise BitstreamError(first_line(error)) from error
    except Exception as error:
        memory = isinstance(error, MemoryError) or "can't allocate memory" in str(error)  # torch: a RuntimeError
        why = "memory is insufficient" if memory else in_short(error)
        msg = f"the file can't be decoded ({why}): it is damaged, hostile or too large for this machine"
        raise BitstreamError(msg) from error


@_refusing()
def decode(data: bytes) -> nn.Module:
    """The network of a file, in eval mode on the CPU; raises BitstreamError for anything `encode` can't have written."""
    header, streams = _parse(data)
    network = blueprint.skeleton(header.architecture, header.arguments, header.edits, header.tied)
    tensors = blueprint.state(network, header.tied)
    _check_targets(tensors, [entry.targets for entry in header.parts])
    promised = sum(math.prod(t.shape) for t in tensors.values())
    if promised > max(blueprint.FEW, ELEMENTS_PER_BYTE * len(data)):
        msg = f"a file of {len(data)} bytes promises {promised} values: it is damaged or hostile"
        raise BitstreamError(msg)
    blueprint.allocate(network, header.tied)
    tensors = blueprint.state(network, header.tied)
    for entry, payload in zip(header.parts, streams, strict=True):
        shapes = [tuple(tensors[target].shape) for target in entry.targets]
        try:
            arrays = codecs.get(entry.codec).decode(entry.meta, payload, shapes)
        except (BitstreamError, MemoryError):
            raise
        except Exception as error:  # a codec may be anybody's
            msg = f"part {entry.codec!r} of {entry.targets[0]!r} can't be decoded: {first_line(error)}"
            raise BitstreamError(msg) from error
        for target, array in zip(entry.targets, arrays, strict=True):
            _fill(tensors[target], array, target)
    return network.eval().requires_grad_(False)


@_refusing()
def bytes_by_role(data: bytes) -> dict[str, int]:
    """Bytes of a file by role; their sum is the length of the file."""
    header, _ = _parse(data)
    sizes: Counter[str] = Counter()
    for entry in header.parts:
        for role, size in entry.streams:
            sizes[role] += size
    sizes["header"] += len(data) - sum(sizes.values())
    return dict(sizes)


def _fill(tensor: torch.Tensor, array: np.ndarray[Any, Any], target: str) -> None:
    if tuple(array.shape) != tuple(tensor.shape):
        msg = f"{target} has shape {tuple(tensor.shape)}, but its part decodes to {tuple(array.shape)}"
        raise BitstreamError(msg)
    if not np.isfinite(array).all():
        msg = f"{target} decodes to NaN or infinite values: the file is damaged, or a step overflows fp32"
        raise BitstreamError(msg)
    with torch.no_grad():
        tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)).reshape(tensor.shape))  # numpy makes a scalar 1-D


def _check_targets(wanted: Mapping[str, torch.Tensor], targets: Sequence[Sequence[str]]) -> None:
    filled = Counter(name for group in targets for name in group)
    for problem, names in (
        ("not filled by any part", [n for n in wanted if n not in filled]),
        ("not in the network", [n for n in filled if n not in wanted]),
        ("filled more than once", [n for n, times in filled.items() if times > 1]),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            msg = f"tensors {problem}: {', '.join(names[:3])}{more}"
            raise BitstreamError(msg)
    if not all(targets):
        raise BitstreamError("a part fills no tensor")


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECKSUM).digest()


def _parse(data: bytes) -> tuple[Header, list[list[bytes]]]:
    """The header and the streams of each part, checked against the file's length and checksum."""
    if data[: len(MAGIC)] != MAGIC:
        raise BitstreamError("not a RateBench file: its first bytes are wrong")
    if len(data) < _PREFIX.size + _CHECKSUM:
        raise BitstreamError("the file ends inside its first fields: it is truncated")
    _, version, length = _PREFIX.unpack_from(data)
    if version != VERSION:
        msg = f"the file has format version {version}, but this decoder reads {VERSION}: use the release that wrote it"
        raise BitstreamError(msg)
    body = data[:-_CHECKSUM]
    if _digest(body) != data[-_CHECKSUM:]:
        raise BitstreamError("the checksum does not match: the file is damaged or truncated")
    header = _header(body[_PREFIX.size : _PREFIX.size + length])
    at = _PREFIX.size + length
    streams = []
    for entry in header.parts:
        group = []
        for _, size in entry.streams:
            if not 0 <= size <= len(body) - at:
                raise BitstreamError("the header promises more bytes than the file has: it is damaged")
            group.append(body[at : at + size])
            at += size
        streams.append(group)
    if at != len(body):
        msg = f"{len(body) - at} bytes of the file belong to no part: it is damaged"
        raise BitstreamError(msg)
    return header, streams


def _header(packed: bytes) -> Header:
    unpacker = zlib.decompressobj(-15)
    try:
        raw = unpacker.decompress(packed, MAX_HEADER)
        if not unpacker.eof or unpacker.unused_data:
            raise BitstreamError("the header is too long or has trailing data: the file is damaged")
        check_keys(raw)
        header = msgspec.msgpack.decode(raw, type=Header)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        msg = f"the header can't be read ({error}): the file is damaged"
        raise BitstreamError(msg) from error
    _check_modules(header)
    return header


def _check_modules(header: Header) -> None:
    count, left = 0, list(header.edits.values())
    while left:
        count += 1
        left += left.pop().children
    if count > MAX_MODULES:
        msg = f"the file adds more than {MAX_MODULES} modules: it is damaged or hostile"
        raise BitstreamError(msg)


__all__ = ["Header", "bytes_by_role", "decode", "encode"]
