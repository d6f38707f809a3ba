"""Byte-level functions that the codecs share: varints, bit packing, Rice codes and checked reading."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from benchmarks.errors import BitstreamError

Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint8]
BLOCK = 2**14  # values that are unpacked together: a bit takes up to 40 bytes while it is unpacked


def zigzag(value: int) -> int:
    """Signed to unsigned: 0, -1, 1, -2 … become 0, 1, 2, 3 …"""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(value: int) -> int:
    return -((value + 1) >> 1) if value & 1 else value >> 1


def varints(values: Iterable[int]) -> bytes:
    """LEB128 of non-negative integers, one after the other."""
    out = bytearray()
    for value in values:
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)


class Reader:
    """Reads a stream from its start. Reading past the end raises BitstreamError; so does `end` if bytes are left."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def varint(self, limit: int = 2**63) -> int:
        value, shift = 0, 0
        while True:
            if self.at >= len(self.data) or shift > 63:
                raise BitstreamError("a stream ends inside a number: the file is damaged")
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if value >= limit:
            msg = f"a stream promises {value} where less than {limit} is possible: the file is damaged"
            raise BitstreamError(msg)
        return value

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            msg = f"a stream of {len(self.data)} bytes promises {size} more at byte {self.at}: the file is damaged"
            raise BitstreamError(msg)
        self.at += size
        return self.data[self.at - size : self.at]

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)

    def end(self) -> None:
        if self.at != len(self.data):
            msg = f"a stream has {len(self.data) - self.at} bytes too many: the file is damaged"
            raise BitstreamError(msg)


def join_blocks(blocks: Iterable[bytes]) -> bytes:
    """One stream of several blocks: their lengths as varints, then the blocks."""
    parts = list(blocks)
    return varints(map(len, parts)) + b"".join(parts)


def split_blocks(stream: bytes, count: int) -> list[bytes]:
    """Inverse of `join_blocks` for `count` blocks; every byte must be used."""
    reader = Reader(stream)
    lengths = [reader.varint() for _ in range(count)]
    blocks = [reader.take(length) for length in lengths]
    reader.end()
    return blocks


def pack_bits(bits: npt.ArrayLike) -> bytes:
    return np.packbits(np.asarray(bits, dtype=np.uint8)).tobytes()


def unpack_bits(data: bytes, count: int) -> Bits:
    """The first `count` bits of `data`. Its length must match `count` exactly, and its padding bits must be zero."""
    if len(data) != (count + 7) // 8:
        msg = f"a bit stream of {len(data)} bytes can't hold exactly {count} bits: the file is damaged"
        raise BitstreamError(msg)
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    if bits[count:].any():
        raise BitstreamError("a bit stream has set bits in its padding: the file is damaged")
    return bits[:count]


def write_fields(values: Ints, widths: Ints) -> bytes:
    """Pack each value into its own number of bits, most significant bit first (vectorised)."""
    ends = np.cumsum(widths)
    total = int(ends[-1]) if len(ends) else 0
    owner = np.repeat(np.arange(len(values)), widths)
    shift = ends[owner] - 1 - np.arange(total)
    return pack_bits(values[owner] >> shift & 1)


def read_fields(data: bytes, widths: Ints) -> Ints:
    """Inverse of `write_fields`."""
    values = np.zeros(len(widths), np.int64)
    bits, first = unpack_bits(data, int(widths.sum())), 0
    for start in range(0, len(widths), BLOCK):
        own = widths[start : start + BLOCK]
        ends = np.cumsum(own)
        total = int(ends[-1])
        owner = np.repeat(np.arange(len(own)), own)
        shifted = bits[first : first + total].astype(np.int64) << (ends[owner] - 1 - np.arange(total))
        np.add.at(values[start : start + BLOCK], owner, shifted)
        first += total
    return values


def write_fixed(values: Ints, width: int) -> bytes:
    """`write_fields` for values that all have the same width of at most 32 bits: faster, with a tenth of the memory."""
    octets = np.asarray(values).astype(">u4").view(np.uint8).reshape(-1, 4)
    return pack_bits(np.unpackbits(octets, axis=1)[:, 32 - width :])


def read_fixed(data: bytes, count: int, width: int) -> Ints:
    """Inverse of `write_fixed`."""
    values = np.zeros(count, np.int64)
    rows = unpack_bits(data, count * width).reshape(count, width)
    for start in range(0, count if width else 0, BLOCK):
        bits = np.zeros((len(rows[start : start + BLOCK]), 32), np.uint8)
        bits[:, 32 - width :] = rows[start : start + BLOCK]
        values[start : start + BLOCK] = np.packbits(bits, axis=1).view(">u4").reshape(-1)
    return values


def write_rice(values: Ints, low_bits: Ints) -> tuple[bytes, bytes]:
    """Golomb-Rice code with a parameter per value: (unary quotients, remainders) as two streams."""
    quotients = values >> low_bits
    ends = np.cumsum(quotients + 1)
    unary = np.ones(int(ends[-1]) if len(ends) else 0, np.uint8)
    unary[ends - 1] = 0
    return pack_bits(unary), write_fields(values & ((1 << low_bits) - 1), low_bits)


def read_rice(unary: bytes, remainders: bytes, low_bits: Ints) -> Ints:
    """Inverse of `write_rice`: one value for each entry of `low_bits`."""
    bits = np.unpackbits(np.frombuffer(unary, np.uint8))
    stops = np.flatnonzero(bits == 0)
    count = len(low_bits)
    if len(stops) < count or len(unary) != (int(stops[count - 1]) + 8 if count else 7) // 8:
        raise BitstreamError("a stream of unary codes has the wrong length: the file is damaged")
    stops = stops[:count]
    quotients = np.diff(stops, prepend=-1) - 1
    return (quotients << low_bits) + read_fields(remainders, low_bits)
