"""The context coder: against a plain-Python coder, on tensors with structure, at the edges, and on damaged streams."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.bitstream import context
from benchmarks.bitstream.codecs import codebook, index, mask, sparse, uniform
from benchmarks.bitstream.entropy import encode_integers
from benchmarks.errors import BitstreamError
from methods.interface import Coded, Part

Tensor = npt.NDArray[np.int64]


class Plain:
    """The coder from its description, in Python's own integers: one tensor after the other into a list of bytes.

    It shares no code and no table with the coder that it checks. The interval is kept in exact integers.
    """

    def __init__(self) -> None:
        self.low, self.high, self.out = 0, 2**56 - 1, bytearray()
        self.chances: dict[Any, list[int]] = defaultdict(lambda: [2**21, 0])
        self.weights: dict[Any, list[int]] = defaultdict(lambda: [2 * 65536 // 5] * 5 + [0])
        self.overall = [2**12, 0]
        self.tensors = 0

    @staticmethod
    def stretch(chance: int) -> int:
        odds = (Decimal(chance >> 10) + Decimal("0.5")) / (4096 - (chance >> 10) - Decimal("0.5"))
        return math.trunc(256 * odds.ln())

    @staticmethod
    def squash(logit: int) -> int:
        found = 65536 / (1 + (Decimal(-max(-2047, min(2047, logit))) / 256).exp())
        return max(24, min(65512, math.floor(found)))

    @staticmethod
    def log(size: int) -> int:
        """The largest k with 2^(2k/5) ≤ size + 1."""
        k = 0
        while 4 ** (k + 1) <= (size + 1) ** 5:
            k += 1
        return k

    def bit(self, bit: bool, kind: int, level: int, contexts: list[int]) -> None:
        weights = self.weights[level, kind]
        slots = [self.chances[n, place, kind] for n, place in enumerate(contexts)]
        logits = [self.stretch(chance) for chance, _ in slots]
        chance = self.squash(sum(w * x for w, x in zip(weights, logits, strict=False)) >> 16)
        middle = self.low + ((self.high - self.low) >> 16) * chance
        self.low, self.high = (self.low, middle) if bit else (middle + 1, self.high)
        while self.low >> 48 == self.high >> 48:
            self.out.append(self.low >> 48)
            self.low, self.high = (self.low << 8) % 2**56, (self.high << 8) % 2**56 + 255
        step = ((bit * 65536 - chance) * (200 + 60000 // (weights[5] + 4))) >> 8
        weights[5] = min(weights[5] + 1, 60000)
        for n, (slot, logit) in enumerate(zip(slots, logits, strict=True)):
            weights[n] += (logit * step + 32768) >> 16
            slot[0] += ((bit * 2**22 - slot[0]) * (655360 // (10 * slot[1] + 16))) >> 16
            slot[1] = min(slot[1] + 1, 255)

    def magnitude(self, magnitude: int, shift: int, level: int, contexts: list[int]) -> int:
        """Codes a magnitude and returns its bucket as far as it is coded in unary."""
        self.bit(magnitude > 0, 0, level, contexts)
        if not magnitude:
            return 0
        bucket, place = divmod(magnitude - 1, 2**shift)
        for unary in range(min(bucket + 1, 17)):
            self.bit(bucket > unary, 1 + unary, level, contexts)
        if bucket >= 17:
            left = f"{bucket - 16:b}"
            for position in range(len(left)):
                if position < 30:
                    self.bit(position + 1 < len(left), 61, level, contexts)
            for digit in left[1:]:
                self.bit(digit == "1", 62, level, contexts)
        first = min(bucket, 17)
        digits = f"{place:0{shift}b}" if shift else ""
        for position, digit in enumerate(digits):
            before = int(digits[:position] or "0", 2)
            kinds = [18 + min(first, 13), 32 + 2 * min(first, 7) + before, 48 + 4 * min(first, 2) + before]
            self.bit(digit == "1", kinds[position] if position < 3 else 60, level, contexts)
        return first

    @staticmethod
    def follow(mean: list[int], size: int) -> None:
        mean[0] += ((size * 256 - mean[0]) * (655360 // (10 * min(mean[1], 60) + 16))) >> 16
        mean[1] += 1

    def tensor(self, values: Tensor, shift: int) -> None:
        """`values` are (outputs, inputs, rows, columns)."""
        outputs, inputs, rows, columns = values.shape
        by_input = [[self.overall[0], 2] for _ in range(inputs)]
        near = [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, 7]

        def at(o: int, i: int, r: int, c: int) -> int:
            return int(values[o, i, r, c]) if min(o, i, r, c) >= 0 else 0

        def sign(value: int) -> int:
            return 0 if value == 0 else 1 if value > 0 else 2

        for o in range(outputs):
            by_output = [self.overall[0], 2]
            for i in range(inputs):
                for r in range(rows):
                    for c in range(columns):
                        left, above, corner = at(o, i, r, c - 1), at(o, i, r - 1, c), at(o, i, r - 1, c - 1)
                        before, other, earlier = at(o, i - 1, r, c), at(o - 1, i, r, c), at(o - 2, i, r, c)
                        product = (by_output[0] * by_input[i][0] // max(self.overall[0], 1)) >> 7
                        weighed = 2 * (abs(left) + abs(above) + abs(other)) + abs(before) + abs(earlier)
                        known = 2 * (bool(c) + bool(r) + bool(o)) + bool(i) + (o > 1)
                        expected = min(((weighed * 64 >> shift) + 8 * product) // (2 * known + 8), 8191)
                        level = (expected // 2 + 1).bit_length() - 1
                        sides = [near[min(2 * abs(v) >> shift, 12)] for v in (left, above)]
                        contexts = [
                            2 * min(self.tensors, 511) + (r * columns + c == rows * columns // 2),
                            64 * ((by_output[0] // 256 + 1).bit_length() - 1) + self.log(by_input[i][0] // 256),
                            8 * sides[0] + sides[1] + 64 * (c == 0) + 128 * (r == 0),
                            4 * self.log(expected) + known // 3,
                            self.log(min(product, 8191)),
                        ]
                        value = int(values[o, i, r, c])
                        bucket = min(self.magnitude(abs(value), shift, level, contexts), 3)
                        if value:
                            s = 3 * sign(left) + sign(above)
                            contexts = [
                                min(self.tensors, 1023),
                                min(r * columns + c, 99) * 9 + s,
                                (8 * sides[0] + sides[1]) * 9 + s,
                                (bucket * 9 + s) * 3 + sign(corner),
                                ((s * 3 + sign(corner)) * 3 + sign(other)) * 3 + sign(before),
                            ]
                            self.bit(value < 0, 63, bucket, contexts)
                        size = min((abs(value) * 16) >> shift, 8191)
                        for mean in (self.overall, by_output, by_input[i]):
                            self.follow(mean, size)
        self.tensors += 1

    def end(self) -> bytes:
        return bytes(self.out) + bytes([(self.low >> 48) + 1])


def bytes_of(tensors: list[Tensor]) -> bytes:
    stream = context.encode_tensors(tensors)
    assert stream is not None
    return stream


def laplace(shape: tuple[int, ...], scale: Any, seed: int = 0) -> Tensor:
    return np.rint(np.random.default_rng(seed).laplace(0, scale, shape)).astype(np.int64)


def entropy(tensors: list[Tensor]) -> float:
    """Bytes of an ideal coder that knows how often each value occurs in each tensor."""
    total = 0.0
    for tensor in tensors:
        counts = np.unique(tensor, return_counts=True)[1]
        total -= float((counts * np.log2(counts / tensor.size)).sum()) / 8
    return total


PLAIN = {
    "a kernel": [laplace((6, 5, 3, 3), 1.0)],
    "large values": [laplace((4, 6, 3, 3), 300.0)],
    "heavy tails": [laplace((4, 6, 1, 1), 1.0) ** 9],
    "escapes": [
        np.where(np.arange(300).reshape(5, 60, 1, 1) % 7, 1, (1 << (np.arange(300) % 31)).reshape(5, 60, 1, 1))
    ],
    "sparse, then dense": [laplace((8, 8, 3, 3), 0.2), laplace((3, 9, 1, 5), 3.0, 1)],
    "a long kernel": [laplace((2, 2, 11, 11), 2.0)],
    "negative": [-1 - np.arange(120).reshape(2, 5, 3, 4)],
    "many tensors": [laplace((2, 3, 2, 2), 1.0, seed) for seed in range(40)],
}


@pytest.mark.parametrize("name", PLAIN)
def test_streams_are_those_of_a_plain_coder(name: str) -> None:
    stream = bytes_of(PLAIN[name])
    coder = Plain()
    for tensor, shift in zip(PLAIN[name], stream, strict=False):
        coder.tensor(tensor, shift)
    assert stream[len(PLAIN[name]) :] == coder.end()


SHAPES = st.lists(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5), max_size=4)
VALUES = st.one_of(st.integers(-2, 2), st.integers(-300, 300), st.integers(1 - 2**31, 2**31 - 1))


@given(SHAPES.flatmap(lambda shapes: st.tuples(*(hnp.arrays(np.int64, s, elements=VALUES) for s in shapes))))
def test_any_tensors_come_back(tensors: tuple[Tensor, ...]) -> None:
    stream = bytes_of(list(tensors))
    for found, tensor in zip(context.decode_tensors(stream, [t.shape for t in tensors]), tensors, strict=True):
        assert found.shape == tensor.shape and (found == tensor).all()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, bool])
def test_tensors_of_any_type_and_layout_come_back(dtype: type) -> None:
    values = (np.arange(240) % 7 % 2).astype(dtype).reshape(4, 6, 2, 5)
    if np.dtype(dtype).kind in "iu":
        values[0, 0, 0] = max(np.iinfo(dtype).min, 1 - 2**31)
    for view in (values, values.T, values[::2, ::-1, :, 1::3], np.asfortranarray(values)):
        (found,) = context.decode_tensors(bytes_of([view]), [view.shape])
        assert (found == view).all()


def test_streams_do_not_depend_on_how_python_rounds_decimals(fresh_python: Callable[..., str]) -> None:
    code = "import decimal; decimal.getcontext().prec = 4; from benchmarks.bitstream import context as c; print(c.{0}.sum())"
    for name in ("STRETCH", "SQUASH", "SHARE", "LOG"):
        assert int(fresh_python(code.format(name))) == getattr(context, name).sum()


@pytest.mark.parametrize("value", [2**31, -(2**31), 2**62, -(2**63)])
def test_magnitudes_of_31_bits_and_more_are_left_to_others(value: int) -> None:
    assert context.encode_tensors([np.array([0, value])]) is None


def test_a_constant_is_left_to_others() -> None:
    """It would take more work than its bytes allow a decoder to do."""
    assert context.encode_tensors([np.full(10**6, 7)]) is None


def ideal(scales: npt.NDArray[Any]) -> float:
    """Expected bytes of rounded Laplace numbers of these scales, for a coder that knows the scale of each."""
    total = 0.0
    for scale, count in zip(*np.unique(scales, return_counts=True), strict=True):
        edges = np.arange(0, 60 * scale) + 0.5
        tails = np.exp(-np.append(edges, edges[-1] + 1) / scale) / 2
        chances = np.append(1 - 2 * tails[0], np.repeat(tails[:-1] - tails[1:], 2))
        total -= count * float((chances * np.log2(np.maximum(chances, 1e-300))).sum()) / 8
    return total


def test_what_depends_on_the_channel_or_the_neighbour_is_seen() -> None:
    """Nearly as few bytes as for a coder that knows the scale of each channel, and far fewer where neighbours are alike."""
    scales = np.exp2(np.arange(64) % 5)
    for axis, shape in ((0, (64, 32, 3, 3)), (1, (32, 64, 3, 3))):
        own = np.broadcast_to(scales.reshape((64, 1, 1, 1) if axis == 0 else (1, 64, 1, 1)), shape)
        tensor = laplace(shape, own)
        assert len(bytes_of([tensor])) < min(1.04 * ideal(own), 0.97 * entropy([tensor]))
    smooth = laplace((64, 32, 1, 1), 2.0) + laplace((64, 32, 3, 3), 0.5, 1)
    assert len(bytes_of([smooth])) < 0.7 * entropy([smooth])


def test_where_nothing_depends_on_anything_little_is_lost() -> None:
    for scale in (0.2, 1.0, 20.0):
        tensor = laplace((64, 64, 3, 3), scale)
        assert len(bytes_of([tensor])) < 1.015 * entropy([tensor])


def test_models_go_on_from_one_tensor_to_the_next() -> None:
    small = [laplace((8, 4, 3, 3), 1.0, seed) for seed in range(20)]
    assert len(bytes_of(small)) < 0.95 * sum(len(bytes_of([tensor])) for tensor in small)


def test_a_stream_of_another_length_is_refused() -> None:
    tensors = [laplace((8, 4, 3, 3), 2.0), laplace((10, 8), 1.0)]
    shapes, stream = [t.shape for t in tensors], bytes_of(tensors)
    for other in (b"", stream[:1], stream[:2], stream + b"\0", stream + b"\x80" * 9):
        with pytest.raises(BitstreamError):
            context.decode_tensors(other, shapes)
    with pytest.raises(BitstreamError, match="bucket sizes"):
        context.decode_tensors(b"\x1f" + stream[1:], shapes)


def test_damaged_streams_are_refused_or_decode_to_what_the_encoder_can_write() -> None:
    tensors = [laplace((8, 4, 3, 3), 2.0), laplace((10, 8), 1.0)]
    shapes, stream, random_ = [t.shape for t in tensors], bytes_of(tensors), random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(stream)
        for _ in range(random_.randint(1, 3)):
            damaged[random_.randrange(len(damaged))] = random_.randrange(256)
        try:
            found = context.decode_tensors(bytes(damaged), shapes)
        except BitstreamError:
            refused += 1
        else:
            assert [t.shape for t in found] == shapes and all(np.abs(t).max() < 2**31 for t in found)
    assert refused > 100


def test_work_is_bounded_by_the_length_of_the_stream() -> None:
    """A hundred million zeros from ten bytes: refused after DECISIONS_PER_BYTE for each byte and FREE ones, not after all."""
    stream, values = np.full(10, 255, np.uint8), np.zeros(10**8, np.int64)
    most = context.DECISIONS_PER_BYTE * len(stream) + context.FREE
    layouts = context._layouts([(10**4, 10**4)])
    assert context._code(values, layouts, np.zeros(1, np.int64), stream, most, True) == (-1, most + 1)
    with pytest.raises(BitstreamError):
        context.decode_tensors(b"\0" + stream.tobytes(), [(10**4, 10**4)])


def test_channels_without_values_take_no_memory() -> None:
    for shape in ((0, 2**45), (0, 2**45, 3, 3), (3, 2**45, 0, 3)):
        (found,) = context.decode_tensors(bytes_of([np.zeros(shape, np.int64)]), [shape])
        assert found.shape == shape


def through(codec: Any, part: Part, shapes: list[tuple[int, ...]]) -> tuple[Coded, list[npt.NDArray[Any]]]:
    """What the codec writes, and what it decodes from that."""
    coded = codec.encode(part)
    return coded, codec.decode(coded.meta, [bytes(stream) for _, stream in coded.streams], shapes)


def size(coded: Coded) -> int:
    return sum(len(stream) for _, stream in coded.streams)


def test_a_part_takes_the_shorter_of_both_coders() -> None:
    shapes = [(64, 32, 3, 3), (10, 16)]
    codes = [laplace(shape, np.exp2(np.arange(shape[-1]))) for shape in shapes]
    steps = [np.float32(0.5), np.full(10, 0.25, np.float32)]
    for tensors in (codes, [np.full(shape, 3) for shape in shapes], [np.full(shape, 2**40) for shape in shapes]):
        coded, found = through(uniform, uniform.part(["a", "b"], tensors, steps, "weights"), shapes)
        static, same = through(uniform, uniform.part(["a", "b"], tensors, steps, "weights", adaptive=False), shapes)
        assert coded.meta.get("adaptive", False) == (tensors is codes) and "adaptive" not in static.meta
        assert size(coded) < size(static) if tensors is codes else size(coded) == size(static)
        for own, other, tensor, step in zip(found, same, tensors, steps, strict=True):
            assert (own == uniform.dequantise(tensor, step)).all() and (own == other).all()


def test_sparse_values_are_coded_with_the_zeros_between_them() -> None:
    """Nearly all values of the first channels are zero, and none of the last ones."""
    shape = (64, 32, 3, 3)
    codes = laplace(shape, np.exp2(np.arange(64) / 8 - 4).reshape(-1, 1, 1, 1))
    coded, (found,) = through(sparse, sparse.part(["a"], [codes], "weights", steps=[0.5]), [shape])
    assert coded.meta["adaptive"] and (found == uniform.dequantise(codes, np.float32(0.5))).all()
    assert size(coded) < 0.9 * sum(len(encode_integers(values)) for values in (codes != 0, codes[codes != 0]))
    values = np.where(codes, np.float32(1.5), np.float32(0))
    coded, (found,) = through(sparse, sparse.part(["a"], [values], "weights"), [shape])
    assert coded.meta["adaptive"] and (found == values).all()
    with pytest.raises(BitstreamError):
        sparse.decode({"kind": "uniform", "adaptive": True}, [b"1", b"", bytes(4)], [shape])


def test_masks_and_indices_are_coded_by_what_is_near() -> None:
    shape = (64, 32, 3, 3)
    bits = laplace(shape, np.exp2(np.arange(64) / 8 - 4).reshape(-1, 1, 1, 1)) != 0
    coded, (found,) = through(mask, mask.part(["a"], [bits]), [shape])
    assert coded.meta["adaptive"] and (found == bits).all() and found.dtype == bool
    assert size(coded) < 0.9 * len(encode_integers(bits))
    coded, (places,) = through(index, index.part(["a"], [3 * bits], 4), [shape])
    assert coded.meta["adaptive"] and (places == 3 * bits).all()
    for codec, meta, said in ((mask, {}, "other than 0 and 1"), (index, {"limit": 3, "packed": [False]}, "outside")):
        with pytest.raises(BitstreamError, match=said):
            codec.decode({**meta, "adaptive": True}, [bytes_of([3 * bits.astype(np.int64)])], [shape])


@pytest.mark.parametrize("kind", ["additive", "product"])
def test_frequent_codewords_come_first(kind: Any) -> None:
    """The codewords of a book are renumbered by falling frequency; the vectors stay what they are."""
    rng = np.random.default_rng(0)
    often = rng.permutation(256)[np.minimum(rng.geometric(0.02, (20_000, 2)), 255)]
    words = rng.normal(size=(2, 256, 4)).astype(np.float16).astype(np.float32)
    width = 4 if kind == "additive" else 8
    shape, part = (20_000, width), codebook.part(["a"], often, words, [1.0], kind)
    coded, (found,) = through(codebook, part, [shape])
    assert coded.meta["adaptive"] and (found == codebook.vectors(often, words, kind)).all()
    (codes,) = context.decode_tensors(coded.streams[2][1], [(2, 20_000)])
    assert all((np.diff(np.bincount(column, minlength=256)) <= 0).all() for column in codes)
    assert len(coded.streams[2][1]) < sum(len(encode_integers(column)) for column in often.T)
