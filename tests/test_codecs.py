"""The entropy coder and every codec: decode(encode(x)) is x, rates are near the entropy, and bad values are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.bitstream import codecs
from benchmarks.bitstream.bytesio import Reader, varints, zigzag
from benchmarks.bitstream.codecs import constant, index, mask, raw, sparse, uniform
from benchmarks.bitstream.entropy import MAX_ALPHABET, decode_bits, decode_integers, encode_bits, encode_integers
from benchmarks.errors import BitstreamError, UnknownName
from methods.interface import Part

Array = npt.NDArray[Any]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
STEPS = st.floats(2.0**-20, 2.0**10, width=32)
RANGES = st.sampled_from([(0, 0), (-7, 7), (0, 1), (-3, MAX_ALPHABET - 4), (-1, MAX_ALPHABET), (-5000, 5000)])
CODES = st.one_of(
    RANGES.flatmap(lambda ends: st.lists(st.integers(*ends), max_size=60)),
    st.lists(st.integers(-(2**61), 2**61), max_size=30),
    st.lists(st.sampled_from([0, 1, -1, 2**61, -(2**61)]), max_size=60),
)


def through(part: Part, shapes: list[tuple[int, ...]]) -> list[Array]:
    """What the decoder makes of a part."""
    codec = codecs.get(part.codec)
    coded = codec.encode(part)
    return codec.decode(coded.meta, [bytes(stream) for _, stream in coded.streams], shapes)


def same(left: Array, right: Array) -> bool:
    """Equal to the last bit, the sign of zero included."""
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def empirical_bits(values: Array) -> float:
    counts = np.unique(values, return_counts=True)[1]
    return float(-(counts * np.log2(counts / values.size)).sum())


@given(CODES)
def test_integers_come_back(values: list[int]) -> None:
    assert decode_integers(encode_integers(values), len(values)).tolist() == values


@pytest.mark.parametrize(
    "values",
    [
        [2**62 - 1],
        [-(2**62)],
        [2**62 - 1, -(2**62)] * 3,
        [0] * 1000 + [2**61],
        [5] * 4096,
        list(range(MAX_ALPHABET)),
        list(range(MAX_ALPHABET + 1)),
        list(range(-(10**6), 10**6, 999)),
        [0] * 10**5 + [1],
        list(range(1, 1000)) + [0] * 10**6,
    ],
    ids=lambda v: f"{len(v)} values",
)
def test_integers_come_back_at_the_edges(values: list[int]) -> None:
    assert decode_integers(encode_integers(values), len(values)).tolist() == values


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, bool])
def test_integers_of_any_type_and_layout_come_back(dtype: type) -> None:
    values = (np.arange(240) % 7 % 2).astype(dtype).reshape(4, 6, 10)
    for view in (values, values.T, values[::2, ::-1, 1::3], np.asfortranarray(values)):
        assert decode_integers(encode_integers(view), view.size).tolist() == view.reshape(-1).astype(int).tolist()


@pytest.mark.parametrize("value", [2**62, -(2**62) - 1, -(2**63), 2**63 - 1])
def test_integers_beyond_the_format_are_refused(value: int) -> None:
    with pytest.raises(BitstreamError, match="can't be written"):
        encode_integers([0, value])


def test_nothing_takes_no_bytes() -> None:
    assert encode_integers([]) == encode_bits(np.zeros((0, 3))) == b""
    assert decode_integers(b"", 0).size == decode_bits(b"", 0).size == 0
    with pytest.raises(BitstreamError):
        decode_integers(b"\0", 0)


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0, 4.0, 30.0])
def test_rate_of_laplace_codes_is_near_their_entropy(scale: float) -> None:
    values = np.rint(np.random.default_rng(1).laplace(0, scale, 300_000)).astype(np.int64)
    assert 8 * len(encode_integers(values)) <= 1.01 * empirical_bits(values) + 8 * 64 + 16 * np.ptp(values)


@pytest.mark.parametrize("symbols", [2, 3, 16, 256, 1000])
def test_rate_of_even_codes_is_near_their_entropy(symbols: int) -> None:
    values = np.random.default_rng(2).integers(0, symbols, 200_000)
    assert 8 * len(encode_integers(values)) <= 1.01 * empirical_bits(values) + 8 * 64


@pytest.mark.parametrize("scale", [0.3, 4.0, 100.0, 3000.0])
@pytest.mark.parametrize("n", [20, 432])
def test_the_few_weights_of_a_small_layer_carry_no_table(scale: float, n: int) -> None:
    values = np.rint(np.random.default_rng(4).laplace(7, scale, n)).astype(np.int64)
    rate = 8 * len(encode_integers(values)) / n
    ideal = np.log2(2 * np.e * max(scale, 0.5))  # differential entropy of a Laplace variable
    assert rate <= ideal + 0.6 + 112 / n + 4 * (np.ptp(values) >= MAX_ALPHABET)


@given(st.lists(st.integers(-600, 600), min_size=1, max_size=8), st.integers(1, 60))
def test_integers_come_back_from_both_kinds_of_frequencies(values: list[int], times: int) -> None:
    few, many = values, values * times
    assert decode_integers(encode_integers(few), len(few)).tolist() == few
    assert decode_integers(encode_integers(many), len(many)).tolist() == many


@pytest.mark.parametrize(("scale", "geometric"), [(3.0, True), (0.4, False)])
def test_frequencies_are_a_model_only_where_that_is_shorter(scale: float, geometric: bool) -> None:
    values = np.rint(np.random.default_rng(5).normal(0, scale, 300 if geometric else 30_000)).astype(np.int64)
    reader = Reader(encode_integers(values))
    reader.varint()
    assert bool(reader.varint() & 1) is geometric


@pytest.mark.parametrize("p", [1e-4, 1e-3, 0.01, 0.1, 0.3, 0.5])
def test_rate_of_a_bit_mask_is_near_its_entropy(p: float) -> None:
    n = 500_000
    bits = np.random.default_rng(3).permutation(n) < p * n
    assert 8 * len(encode_bits(bits)) <= 1.002 * empirical_bits(bits) + 8 * 16
    assert (decode_bits(encode_bits(bits), n) == bits).all()


def head(low: int, escapes: int, frequencies: list[int]) -> bytes:
    return varints([zigzag(low), 2 * len(frequencies), escapes, *frequencies])


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        varints([0, 2**60]),  # an alphabet of 2^60 symbols
        varints([0, 6, 2**60, 1, 1, 4094]),  # 2^60 escapes
        varints([0, 1, 0, 0, 0]),  # a geometric model of no symbol
        varints([0, 7, 0, 3, 100]) + b"\0" * 4,  # its centre outside
        varints([0, 7, 0, 1, 4096]) + b"\0" * 4,  # frequencies that grow
        varints([0, 7, 5, 1, 100, 9, 9, 9, 9, 9]) + b"\0" * 4,  # nothing but escapes
        head(0, 0, [4096, 1, 0]),  # more than the table holds
        head(0, 0, [1000, 1, 0]),  # less, without escapes
        head(0, 1, [4000, 96, 0]) + b"\0",  # escapes without a frequency
        head(0, 5, [0, 0, 4000]) + b"\0" * 9,  # escapes where none is coded
        head(0, 0, [0, 0, 4096]) + b"\0",  # a constant with a byte too many
        head(0, 0, [2048, 2048, 0]) + b"\0\0\0",  # no whole number of words
        head(0, 0, [2048, 2048, 0]) + b"\0" * 400,  # longer than its symbols
        varints([2**63]),
    ],
)
def test_streams_that_no_encoder_writes_are_refused(stream: bytes) -> None:
    with pytest.raises(BitstreamError):
        decode_integers(stream, 5)


def test_frequencies_of_no_value_are_refused() -> None:
    with pytest.raises(BitstreamError, match="a stream has frequencies for no value"):
        decode_integers(varints([0, 1, 0, 0, 0]), 5)


def test_bit_mask_of_other_numbers_is_refused() -> None:
    for values in ([0, 2, 0], [-1, 0, 0]):
        with pytest.raises(BitstreamError, match="values other than 0 and 1"):
            decode_bits(encode_integers(values), 3)


@given(hnp.arrays(np.float32, SHAPES, elements=FLOATS))
def test_raw_fp32_is_exact(values: Array) -> None:
    assert same(through(raw.part(["a"], [values], "weights"), [values.shape])[0], values)


@given(hnp.arrays(np.float32, SHAPES, elements=st.floats(-65504, 65504, width=32)))
def test_raw_fp16_rounds_to_the_nearest_even(values: Array) -> None:
    (back,) = through(raw.part(["a"], [values], "weights", "float16"), [values.shape])
    assert same(back, values.astype(np.float16).astype(np.float32))


def test_raw_fp16_ties_go_to_the_even_neighbour() -> None:
    ties = np.array([2049, 2051, -2049, 2.0**-25, 3 * 2.0**-25, 65519], np.float32)
    (back,) = through(raw.part(["a"], [ties], "weights", "float16"), [ties.shape])
    assert back.tolist() == [2048, 2052, -2048, 0, 2.0**-23, 65504]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    values = np.array([0.5, value], np.float32)
    for part in (
        raw.part(["a"], [values], "weights"),
        raw.part(["a"], [values], "weights", "float16"),
        sparse.part(["a"], [values], "weights"),
        sparse.part(["a"], [[1, 0]], "weights", steps=[value]),
        uniform.part(["a"], [[1, 2]], [values], "weights"),
        constant.part(["a"], value, "weights"),
    ):
        with pytest.raises(BitstreamError, match=r"a (holds NaN or infinite values: it|can't be filled with)"):
            codecs.get(part.codec).encode(part)


@pytest.mark.parametrize("value", [65520, -1e5, 3e38])
def test_values_beyond_fp16_are_refused(value: float) -> None:
    for part in (raw.part(["a"], [[value]], "weights", "float16"), sparse.part(["a"], [[value]], "weights")):
        with pytest.raises(BitstreamError, match="beyond the range of float16"):
            codecs.get(part.codec).encode(part)


@given(hnp.arrays(np.int64, SHAPES, elements=st.integers(-(2**40), 2**40)), STEPS, st.booleans())
def test_uniform_codes_come_back_as_their_product_with_the_step(codes: Array, step: float, transposed: bool) -> None:
    codes = codes.T if transposed else codes
    (back,) = through(uniform.part(["a"], [codes], [step], "weights"), [codes.shape])
    assert same(back, codes.astype(np.float32) * np.float32(step))


@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
def test_uniform_steps_of_channels_come_back(data: st.DataObject, shape: tuple[int, ...]) -> None:
    codes = data.draw(hnp.arrays(np.int16, shape))
    steps = data.draw(hnp.arrays(np.float32, shape[:1], elements=STEPS))
    (back, whole) = through(uniform.part(["a", "b"], [codes, codes], [steps, 0.5], "weights"), [shape, shape])
    assert same(back, codes.astype(np.float32) * steps.reshape(-1, *[1] * (len(shape) - 1)))
    assert same(whole, codes.astype(np.float32) * np.float32(0.5))


@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=32)), st.data())
def test_uniform_quantisation_errs_by_half_a_step_at_most(values: Array, data: st.DataObject) -> None:
    step = data.draw(
        STEPS.filter(lambda s: s > 0.125) | hnp.arrays(np.float32, 3, elements=st.floats(0.125, 9, width=32))
    )
    codes, steps = uniform.quantise(values, step)
    back = uniform.dequantise(codes, steps)
    assert steps.dtype == np.float32
    errors = np.abs(back - values.astype(np.float64)).T  # channels last
    assert np.all(errors <= steps * 0.5001)


@given(st.data(), SHAPES)
def test_sparse_tensors_come_back(data: st.DataObject, shape: tuple[int, ...]) -> None:
    floats = hnp.arrays(np.float32, shape, elements=st.floats(-9, 9, width=16), fill=st.just(np.float32(0)))
    values = data.draw(floats)
    codes = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(-(2**50), 2**50), fill=st.just(0)))
    expected = np.where(values == 0, np.float32(0), values)  # a zero loses its sign
    half, full = (sparse.part(["a"], [values], "weights", dtype=d) for d in ("float16", "float32"))
    assert same(through(half, [shape])[0], expected.astype(np.float16).astype(np.float32))
    assert same(through(full, [shape])[0], expected)
    steps = sparse.part(["a", "b"], [codes, codes.T], "weights", steps=[0.25, 3])
    first, second = through(steps, [shape, shape[::-1]])
    assert same(first, codes.astype(np.float32) * np.float32(0.25))
    assert same(second, codes.T.astype(np.float32) * np.float32(3))


@pytest.mark.parametrize("kept", [0, 1])
def test_sparse_tensor_without_zeros_or_without_anything_else(kept: int) -> None:
    values = np.full((6, 5), kept * 1.5, np.float32)
    part = sparse.part(["a"], [values], "weights")
    assert same(through(part, [(6, 5)])[0], values)
    assert sum(len(stream) for _, stream in sparse.encode(part).streams) <= 12 + kept * 60


@given(st.data(), SHAPES, st.sampled_from([1, 2, 200, 2**20, 2**31]))
def test_indices_come_back(data: st.DataObject, shape: tuple[int, ...], limit: int) -> None:
    values = [data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, limit - 1))) for _ in range(2)]
    back = through(index.part(["a", "b"], values, limit), [shape, shape])
    assert all(map(same, back, values))


def test_sparse_values_are_floats_or_codes_whatever_their_type() -> None:
    values = np.array([0.0, 0.1, 3.0])
    assert sparse.part(["a"], [values], "weights").data["values"][0].dtype == np.float32
    assert sparse.part(["a"], [values.astype(np.int8)], "weights", steps=[0.5]).data["values"][0].dtype == np.int64


def test_indices_are_packed_or_entropy_coded_whichever_is_shorter() -> None:
    spread, alike = np.arange(256), np.where(np.arange(3000) % 100, 0, 255)
    part = index.part(["a", "b"], [spread, alike], 256)
    assert index.encode(part).meta["packed"] == [True, False]
    assert all(map(same, through(part, [(256,), (3000,)]), [spread, alike]))


@pytest.mark.parametrize("values", [[8], [-1], [0, 2**40]])
def test_indices_beyond_their_limit_are_refused(values: list[int]) -> None:
    with pytest.raises(BitstreamError, match=r"outside \[0, 8\)"):
        index.encode(index.part(["a"], [values], 8))
    with pytest.raises(BitstreamError, match=r"outside \[0, 8\)"):
        index.decode_indices(False, encode_integers(values), len(values), 8)


@given(st.lists(hnp.arrays(bool, SHAPES), min_size=1, max_size=3))
def test_masks_come_back(masks: list[Array]) -> None:
    back = through(mask.part([str(i) for i in range(len(masks))], masks), [m.shape for m in masks])
    assert all(map(same, back, masks))


@given(FLOATS, SHAPES)
def test_constants_come_back_without_payload(value: float, shape: tuple[int, ...]) -> None:
    part = constant.part(["a", "b"], value, "norm_bias")
    assert constant.encode(part).streams == ()
    assert all(
        same(back, np.full(s, value, np.float32))
        for back, s in zip(through(part, [shape, ()]), [shape, ()], strict=True)
    )


@pytest.mark.parametrize("name", ["nothing", "uniforn", "", ".", "..", "../raw", "os.system", "raw.part", "raw/../raw"])
def test_unknown_codec_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownName, match=r"unknown (codec|method)"):
        codecs.get(name)
