"""Varints, bit packing, Rice codes and checked reading: exact round trips, and refusal of everything else."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bitstream import bytesio
from benchmarks.bitstream.bytesio import Reader
from benchmarks.errors import BitstreamError

SIGNED = st.integers(-(2**62), 2**62 - 1)


@st.composite
def fields(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Values and their widths in bits, 0 to 62."""
    widths = draw(st.lists(st.integers(0, 62), max_size=40))
    return [draw(st.integers(0, (1 << width) - 1)) for width in widths], widths


@given(SIGNED)
def test_zigzag_is_a_bijection_to_non_negative_integers(value: int) -> None:
    coded = bytesio.zigzag(value)
    assert 0 <= coded < 2**63
    assert bytesio.unzigzag(coded) == value


def test_zigzag_counts_away_from_zero() -> None:
    assert [bytesio.zigzag(v) for v in (0, -1, 1, -2, 2)] == [0, 1, 2, 3, 4]


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_varints_come_back_and_use_every_byte(values: list[int]) -> None:
    reader = Reader(bytesio.varints(values))
    assert [reader.varint() for _ in values] == values
    reader.end()


@pytest.mark.parametrize("value", [0, 127, 128, 2**14 - 1, 2**14, 2**63 - 1])
def test_varint_has_seven_bits_a_byte(value: int) -> None:
    assert len(bytesio.varints([value])) == max(1, math.ceil(value.bit_length() / 7))


@given(st.integers(0, 2**63 - 1), st.data())
def test_truncated_varint_is_refused(value: int, data: st.DataObject) -> None:
    coded = bytesio.varints([value])
    cut = data.draw(st.integers(0, len(coded) - 1))
    with pytest.raises(BitstreamError, match="ends inside a number"):
        Reader(coded[:cut]).varint()


@pytest.mark.parametrize("coded", [b"\xff" * 9 + b"\x7f", b"\x80" * 10_000, b"\x80" * 10 + b"\x01"])
def test_varint_beyond_63_bits_is_refused(coded: bytes) -> None:
    with pytest.raises(BitstreamError):
        Reader(coded).varint()


def test_varint_at_its_limit_is_refused() -> None:
    assert Reader(b"\x04").varint(5) == 4
    with pytest.raises(BitstreamError, match="promises 5 where less than 5"):
        Reader(b"\x05").varint(5)


def test_reader_gives_what_is_there_and_no_more() -> None:
    reader = Reader(b"abcdef")
    assert (reader.take(2), reader.take(0), reader.rest(), reader.rest()) == (b"ab", b"", b"cdef", b"")
    reader.end()
    with pytest.raises(BitstreamError, match="promises 1 more at byte 6"):
        reader.take(1)


def test_bytes_left_over_are_refused() -> None:
    with pytest.raises(BitstreamError, match="3 bytes too many"):
        Reader(b"abc").end()


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_blocks_come_back(blocks: list[bytes]) -> None:
    assert bytesio.split_blocks(bytesio.join_blocks(blocks), len(blocks)) == blocks


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=5))
def test_blocks_with_a_byte_too_few_or_too_many_are_refused(blocks: list[bytes]) -> None:
    stream = bytesio.join_blocks(blocks)
    for damaged in (stream[:-1], stream + b"\0"):
        with pytest.raises(BitstreamError):
            bytesio.split_blocks(damaged, len(blocks))


@given(st.lists(st.booleans(), max_size=100))
def test_bits_come_back(bits: list[bool]) -> None:
    packed = bytesio.pack_bits(bits)
    assert len(packed) == math.ceil(len(bits) / 8)
    assert bytesio.unpack_bits(packed, len(bits)).tolist() == bits


@pytest.mark.parametrize(("data", "count"), [(b"", 1), (b"\0", 0), (b"\0\0", 8), (b"\0", 9)])
def test_bits_of_another_length_are_refused(data: bytes, count: int) -> None:
    with pytest.raises(BitstreamError, match=f"of {len(data)} bytes can't hold exactly {count} bits"):
        bytesio.unpack_bits(data, count)


@pytest.mark.parametrize(("data", "count"), [(b"\x01", 7), (b"\0\x10", 10)])
def test_bits_with_set_padding_are_refused(data: bytes, count: int) -> None:
    with pytest.raises(BitstreamError, match="a bit stream has set bits in its padding"):
        bytesio.unpack_bits(data, count)


@given(fields())
def test_fields_come_back_in_exactly_their_widths(given_fields: tuple[list[int], list[int]]) -> None:
    values, widths = (np.array(x, np.int64) for x in given_fields)
    packed = bytesio.write_fields(values, widths)
    assert len(packed) == math.ceil(widths.sum() / 8)
    assert bytesio.read_fields(packed, widths).tolist() == values.tolist()


def test_fields_start_with_their_most_significant_bit() -> None:
    assert bytesio.write_fields(np.array([5, 1, 2]), np.array([3, 1, 4])) == bytes([0b10110010])


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0"])
def test_fields_of_another_length_are_refused(change: object) -> None:
    widths = np.array([7, 9, 3])
    packed = bytesio.write_fields(np.array([100, 300, 5]), widths)
    with pytest.raises(BitstreamError):
        bytesio.read_fields(change(packed), widths)  # type: ignore[operator]


@given(st.integers(0, 32).flatmap(lambda w: st.tuples(st.just(w), st.lists(st.integers(0, (1 << w) - 1)))))
def test_fields_of_one_width_are_the_same_bytes(given_width: tuple[int, list[int]]) -> None:
    width, values = given_width[0], np.array(given_width[1], np.int64)
    packed = bytesio.write_fixed(values, width)
    assert packed == bytesio.write_fields(values, np.full(len(values), width, np.int64))
    assert bytesio.read_fixed(packed, len(values), width).tolist() == values.tolist()


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 31)), max_size=40))
def test_rice_codes_come_back(pairs: list[tuple[int, int]]) -> None:
    values, low_bits = (np.array([p[i] for p in pairs], np.int64) for i in (0, 1))
    unary, remainders = bytesio.write_rice(values, low_bits)
    assert bytesio.read_rice(unary, remainders, low_bits).tolist() == values.tolist()
    assert len(unary) == math.ceil((int((values >> low_bits).sum()) + len(pairs)) / 8)


def test_rice_codes_hold_the_largest_values_of_the_widest_fields() -> None:
    values = np.array([2**62 - 1, 0, 2**40], np.int64)
    low_bits = np.array([62, 62, 33], np.int64)
    assert bytesio.read_rice(*bytesio.write_rice(values, low_bits), low_bits).tolist() == values.tolist()


@pytest.mark.parametrize("count", [1, 7, 8, 40])
def test_rice_streams_of_another_length_are_refused(count: int) -> None:
    low_bits = np.full(count, 2)
    unary, remainders = bytesio.write_rice(np.arange(count), low_bits)
    damaged = [
        (unary[:-1], remainders),
        (unary + b"\0", remainders),
        (unary, remainders[:-1]),
        (unary, remainders + b"\0"),
        (b"\xff" * len(unary), remainders),
        (b"", b""),
    ]
    for streams in damaged:
        with pytest.raises(BitstreamError):
            bytesio.read_rice(*streams, low_bits)


def test_empty_rice_streams_hold_nothing() -> None:
    nothing = np.zeros(0, np.int64)
    assert bytesio.write_rice(nothing, nothing) == (b"", b"")
    assert bytesio.read_rice(b"", b"", nothing).size == 0
    with pytest.raises(BitstreamError):
        bytesio.read_rice(b"\0", b"", nothing)


def test_reading_takes_little_more_memory_than_the_values() -> None:
    """A value of no bits is in no stream, so that nothing but this limits what a short file takes; a bit takes 8 bytes."""
    n = 2**19
    values = np.arange(n) % 256
    widths = np.full(n, 8)
    cases = (
        (lambda: bytesio.read_fixed(b"", n, 0), 10),
        (lambda: bytesio.read_fixed(bytes(n), n, 8), 24),
        (lambda: bytesio.read_fields(values.astype(np.uint8).tobytes(), widths), 80),
    )
    for read, most in cases:
        tracemalloc.start()
        read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < most * n
