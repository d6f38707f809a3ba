"""Adaptive entropy coding of integer tensors: logistic mixing of context models, as in the PAQ compressors (M. Mahoney).

A value is a few decisions: is it zero; the bucket of its magnitude, in unary; the place in the bucket; the sign. The
probability of a decision is mixed from INPUTS adaptive probabilities, each learnt in a context of values that the decoder
knows: neighbours in the kernel, the same place in the channels before, mean magnitudes of channels. Models go on from one
tensor to the next. Only integers are computed, so that a stream written on one machine decodes on every other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Context, Decimal, localcontext
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from benchmarks.bitstream.bytesio import Ints
from benchmarks.errors import BitstreamError

INPUTS = 5  # probabilities that are mixed
CONTEXTS = 1024  # of an input
BINS = 64  # kinds of decision: the first of each kind follows
ZERO, BUCKET, FIRST, SECOND, THIRD, LATER, LENGTH, ESCAPED, SIGN = 0, 1, 18, 32, 48, 60, 61, 62, 63
UNARY = 17  # buckets from this one on are escaped
SETS = 16  # of mixing weights for a bin
LARGEST = 2**31  # magnitudes are below it
MOST_SHIFT = 30
FINE = 4  # bits after the binary point of a magnitude in buckets
MEAN = 8  # further bits of a mean
TOP = 8191  # largest magnitude in buckets, with FINE bits, that contexts tell apart
LOGIT = 2047  # largest logit, in units of 1/256
LEAST = 24  # least probability, in units of 1/65536
SAMPLES = 255  # an adaptive probability is the mean of about so many decisions
CHANNEL = 60  # the same for a mean magnitude
STEADY, EARLY = 200, 60_000  # the learning rate of the mixing weights: STEADY + EARLY / (decisions so far + 4)
REGISTER = 56  # bits of the arithmetic coder
DECISIONS_PER_BYTE = 512  # in a stream: more means a constant tensor, which other codecs store without any
FREE = 2**16  # decisions for a stream however short


def _tables() -> tuple[npt.NDArray[np.int32], ...]:
    """Logits of probabilities, probabilities of logits, 1/(n + 1.6), logarithms to 2^(2/5) and to 2: the same everywhere."""
    half = Decimal("0.5")
    stretch = [int(256 * ((i + half) / (4096 - i - half)).ln()) for i in range(4096)]
    squash = [int(65536 / (1 + (-Decimal(logit) / 256).exp())) for logit in range(-LOGIT, LOGIT + 1)]
    share = [int(655360 / Decimal(10 * n + 16)) for n in range(SAMPLES + 1)]
    coarse = [(size + 1).bit_length() - 1 for size in range(TOP + 1)]
    log = [int(Decimal((size + 1) ** 5).log10() / Decimal(4).log10() + Decimal("1e-9")) for size in range(TOP + 1)]
    columns = stretch, np.clip(squash, LEAST, 65536 - LEAST), share, log, coarse
    return tuple(np.array(column, np.int32) for column in columns)


with localcontext(Context(prec=28)):
    STRETCH, SQUASH, SHARE, LOG, COARSE = _tables()
NEAR = np.array([0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, 7], np.int32)  # classes of a neighbour's magnitude in half buckets
_compiled = numba.njit(cache=True)
# Without counts of references to arrays, which would take longer than a decision.
_inlined = numba.njit(forceinline=True, _nrt=False)  # type: ignore[call-overload]


def encode_tensors(tensors: Sequence[npt.NDArray[Any]]) -> bytes | None:
    """The stream of integer tensors; None if a magnitude is 2^31 or more, or if they hold nearly no information.

    A tensor is (output channels, input channels, …, columns), (output channels, input channels) or (values,).
    """
    if any(t.size and not -LARGEST < int(t.min()) <= int(t.max()) < LARGEST for t in tensors):
        return None
    shifts = np.array([_shift(t) for t in tensors], np.int64)
    values = np.concatenate([np.zeros(0, np.int64), *(t.reshape(-1).astype(np.int64) for t in tensors)])
    stream = np.zeros(8 * len(values) + REGISTER, np.uint8)
    used, decisions = _code(values, _layouts([t.shape for t in tensors]), shifts, stream, np.iinfo(np.int64).max, False)
    if not 0 <= used <= len(stream) or decisions > _most(used):
        return None
    return bytes(shifts.tolist()) + stream[:used].tobytes()


def decode_tensors(data: bytes, shapes: Sequence[tuple[int, ...]]) -> list[Ints]:
    """Inverse of `encode_tensors`; raises BitstreamError for a stream that does not hold as many values."""
    shifts, stream = np.split(np.frombuffer(bytearray(data), np.uint8), [len(shapes)])
    if len(shifts) != len(shapes) or (shifts > MOST_SHIFT).any():
        raise BitstreamError("a context-coded stream has no valid bucket sizes: the file is damaged")
    sizes = [math.prod(shape) for shape in shapes]
    values = np.zeros(sum(sizes), np.int64)
    used, _ = _code(values, _layouts(shapes), shifts.astype(np.int64), stream, _most(len(stream)), True)
    if used != len(stream):
        raise BitstreamError("a context-coded stream does not end with its values: the file is damaged")
    ends = np.cumsum(sizes, dtype=np.int64)
    return [values[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, shapes, strict=True)]


def _most(size: int) -> int:
    return DECISIONS_PER_BYTE * size + FREE


def _shift(tensor: npt.NDArray[Any]) -> int:
    """Binary logarithm of a bucket's size: about two buckets reach the mean magnitude of what is not zero."""
    magnitudes = np.abs(tensor[tensor != 0].astype(np.int64))
    return min(MOST_SHIFT, max(0, round(math.log2(magnitudes.mean() / 2)))) if magnitudes.size else 0


def _layouts(shapes: Sequence[tuple[int, ...]]) -> Ints:
    """(tensors, 4): output channels, input channels, rows and columns of the kernel."""
    found = [(*s[:2], math.prod(s[2:-1]), s[-1]) if len(s) > 2 else (*(1, 1, *s)[-2:], 1, 1) for s in shapes]
    return np.array(found, np.int64).reshape(-1, 4)


@_compiled
def _code(values, layouts, shifts, stream, most, decoding):  # type: ignore[no-untyped-def]
    """Code all values in order; returns the bytes of the stream and the number of decisions.

    −1 bytes: a value or the last byte is not what the encoder writes, or there are more decisions than `most`.
    """
    slots = np.full(INPUTS * CONTEXTS * BINS, 1 << 29, np.int32)  # probability (22 bits), decisions it has seen (8)
    weights = np.full((SETS * BINS, INPUTS + 1), 2 * 65536 // INPUTS, np.int64)  # in units of 2^-16
    weights[:, INPUTS] = 0  # decisions that a set has seen
    contexts = np.zeros((2, INPUTS), np.int64)  # and their logits
    coder = np.array([0, (1 << REGISTER) - 1, 0, 0, 0])  # low, high, code, bytes, decisions
    if decoding:
        for _ in range(REGISTER // 8):
            _read(coder, stream)
    overall = np.array([[1 << FINE + MEAN, 0]])  # running mean, values seen
    at = 0
    for tensor in range(len(layouts)):
        outputs, inputs, rows, columns = layouts[tensor]
        shift, kernel = shifts[tensor], rows * columns
        if outputs * kernel == 0:
            continue  # no values, but there may be any number of input channels
        by_input = np.full((inputs, 2), 2)
        by_input[:, 0] = overall[0, 0]
        by_output = np.zeros((1, 2), np.int64)
        for output in range(outputs):
            by_output[0, 0], by_output[0, 1] = overall[0, 0], 2
            for channel in range(inputs):
                for place in range(kernel):
                    column, row = place % columns, place // columns
                    left = values[at - 1] if column else 0
                    above = values[at - columns] if row else 0
                    corner = values[at - columns - 1] if column and row else 0
                    before = values[at - kernel] if channel else 0
                    other = values[at - inputs * kernel] if output else 0
                    earlier = values[at - 2 * inputs * kernel] if output > 1 else 0
                    product = by_output[0, 0] * by_input[channel, 0] // max(overall[0, 0], 1) >> MEAN - 1
                    near = 2 * (abs(left) + abs(above) + abs(other)) + abs(before) + abs(earlier)
                    known = 2 * ((column > 0) + (row > 0) + (output > 0)) + (channel > 0) + (output > 1)
                    expected = min(((near << FINE + 2 >> shift) + 8 * product) // (2 * known + 8), TOP)
                    level = COARSE[expected >> 1]
                    sides = NEAR[min(2 * abs(left) >> shift, 12)] * 8 + NEAR[min(2 * abs(above) >> shift, 12)]
                    contexts[0, 0] = min(tensor, CONTEXTS // 2 - 1) * 2 + (place == kernel // 2)
                    contexts[0, 1] = COARSE[by_output[0, 0] >> MEAN] * 64 + LOG[by_input[channel, 0] >> MEAN]
                    contexts[0, 2] = sides + 64 * (column == 0) + 128 * (row == 0)
                    contexts[0, 3] = LOG[expected] * 4 + known // 3
                    contexts[0, 4] = LOG[min(product, TOP)]
                    magnitude, bucket = _magnitude(
                        abs(values[at]), shift, level, slots, weights, contexts, coder, stream, decoding
                    )
                    if magnitude >= LARGEST or coder[4] > most:
                        return -1, coder[4]
                    negative = 0
                    if magnitude:
                        signs = _sign(left) * 3 + _sign(above)
                        contexts[0, 0] = min(tensor, CONTEXTS - 1)
                        contexts[0, 1] = min(place, 99) * 9 + signs
                        contexts[0, 2] = sides * 9 + signs
                        contexts[0, 3] = (min(bucket, 3) * 9 + signs) * 3 + _sign(corner)
                        contexts[0, 4] = ((signs * 3 + _sign(corner)) * 3 + _sign(other)) * 3 + _sign(before)
                        negative = _bit(
                            values[at] < 0, SIGN, min(bucket, 3), slots, weights, contexts, coder, stream, decoding
                        )
                    if decoding:
                        values[at] = -magnitude if negative else magnitude
                    size = min(magnitude << FINE >> shift, TOP)
                    _follow(overall, 0, size)
                    _follow(by_output, 0, size)
                    _follow(by_input, channel, size)
                    at += 1
    used = coder[3] - REGISTER // 8 if decoding else coder[3]
    last = (coder[0] >> REGISTER - 8) + 1  # and zeros: a number between low and high
    if used < len(stream):
        if decoding and stream[used] != last:
            return -1, coder[4]
        stream[used] = last
    return used + 1, coder[4]


@_inlined
def _magnitude(magnitude, shift, level, slots, weights, contexts, coder, stream, decoding):  # type: ignore[no-untyped-def]
    """Code a magnitude; returns it and its bucket."""
    if not _bit(magnitude > 0, ZERO, level, slots, weights, contexts, coder, stream, decoding):
        return 0, 0
    place, bucket = (magnitude - 1) & ((1 << shift) - 1), (magnitude - 1) >> shift
    unary = 0
    while unary < UNARY and _bit(
        bucket > unary, BUCKET + unary, level, slots, weights, contexts, coder, stream, decoding
    ):
        unary += 1
    first = unary
    if unary == UNARY:  # the number of bits of what is left, plus one, in unary, and these bits without the first
        length, left = 0, bucket - UNARY + 1
        while length < MOST_SHIFT and _bit(
            left >> length > 1, LENGTH, level, slots, weights, contexts, coder, stream, decoding
        ):
            length += 1
        own = 1
        for position in range(length):
            bit = left >> (length - 1 - position) & 1
            own = own << 1 | _bit(bit, ESCAPED, level, slots, weights, contexts, coder, stream, decoding)
        unary += own - 1
    own = 0
    for position in range(shift):
        if position == 0:
            kind = FIRST + min(first, 13)
        elif position == 1:
            kind = SECOND + min(first, 7) * 2 + own
        elif position == 2:
            kind = THIRD + min(first, 2) * 4 + own
        else:
            kind = LATER
        bit = place >> (shift - 1 - position) & 1
        own = own << 1 | _bit(bit, kind, level, slots, weights, contexts, coder, stream, decoding)
    return (unary << shift) + own + 1, first


@_inlined
def _bit(bit, kind, level, slots, weights, contexts, coder, stream, decoding):  # type: ignore[no-untyped-def]
    """Code a decision of one kind, and learn from it; returns it."""
    used = level * BINS + kind
    mixed = 0
    for n in range(INPUTS):
        logit = STRETCH[slots[(n * CONTEXTS + contexts[0, n]) * BINS + kind] >> 18]
        contexts[1, n] = logit
        mixed += weights[used, n] * logit
    chance = np.int64(SQUASH[min(max(mixed >> 16, -LOGIT), LOGIT) + LOGIT])
    bit = _arithmetic(bit, chance, coder, stream, decoding)
    step = ((bit << 16) - chance) * (STEADY + EARLY // (weights[used, INPUTS] + 4)) >> 8
    weights[used, INPUTS] = min(weights[used, INPUTS] + 1, EARLY)
    for n in range(INPUTS):
        weights[used, n] += contexts[1, n] * step + 32768 >> 16
        place = (n * CONTEXTS + contexts[0, n]) * BINS + kind
        chance, seen = np.int64(slots[place] >> 8), slots[place] & 255
        chance += ((bit << 22) - chance) * SHARE[seen] >> 16
        slots[place] = chance << 8 | min(seen + 1, SAMPLES)
    return bit


@_inlined
def _arithmetic(bit, chance, coder, stream, decoding):  # type: ignore[no-untyped-def]
    """Code a bit that is 1 with a probability of chance / 65536: the interval from low to high is divided; returns the bit."""
    low, high = coder[0], coder[1]
    middle = low + (high - low >> 16) * chance
    one = coder[2] <= middle if decoding else bit
    if one:
        high = middle
    else:
        low = middle + 1
    while low ^ high < 1 << REGISTER - 8:  # the first byte is known
        if decoding:
            _read(coder, stream)
        else:
            if coder[3] < len(stream):
                stream[coder[3]] = low >> REGISTER - 8
            coder[3] += 1
        low = low << 8 & (1 << REGISTER) - 1
        high = high << 8 & (1 << REGISTER) - 1 | 255
    coder[0], coder[1] = low, high
    coder[4] += 1
    return 1 if one else 0


@_inlined
def _read(coder, stream):  # type: ignore[no-untyped-def]
    """Move one byte of the stream into the code; zeros follow its end."""
    byte = stream[coder[3]] if coder[3] < len(stream) else 0
    coder[2] = coder[2] << 8 & (1 << REGISTER) - 1 | byte
    coder[3] += 1


@_inlined
def _follow(means, at, size):  # type: ignore[no-untyped-def]
    """Move a running mean towards a magnitude in buckets."""
    means[at, 0] += ((size << MEAN) - means[at, 0]) * SHARE[min(means[at, 1], CHANNEL)] >> 16
    means[at, 1] += 1


@_inlined
def _sign(value):  # type: ignore[no-untyped-def]
    return 0 if value == 0 else 1 if value > 0 else 2
