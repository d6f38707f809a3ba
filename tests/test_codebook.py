"""Codebooks: vectors come back, masks and scales are kept, and what can't have been written is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_codecs import through

from benchmarks.bitstream.codecs import codebook
from benchmarks.errors import BitstreamError


@st.composite
def quantised(draw: st.DrawFn) -> tuple[list[tuple[int, ...]], Any, Any, list[Any], str, list[Any] | None]:
    """Shapes, codes, codebooks, scales, kind and masks that belong together."""
    shapes = draw(st.lists(hnp.array_shapes(min_dims=0, max_dims=4, max_side=5), min_size=1, max_size=3))
    kind = draw(st.sampled_from(["additive", "product"]))
    books, size, width = draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 5))
    masks = [draw(hnp.arrays(bool, shape)) for shape in shapes] if draw(st.booleans()) else None
    dimension = width if kind == "additive" else books * width
    sizes = [math.prod(s) for s in shapes] if masks is None else [int(m.sum()) for m in masks]
    count = sum(-(-n // dimension) for n in sizes)
    codes = draw(hnp.arrays(np.int64, (count, books), elements=st.integers(0, size - 1)))
    words = draw(hnp.arrays(np.float32, (books, size, width), elements=st.floats(-9, 9, width=16)))
    positive = st.floats(0.125, 8, width=16)
    scales = [draw(hnp.arrays(np.float32, draw(st.sampled_from([(), s[:1]])), elements=positive)) for s in shapes]
    return shapes, codes, words, scales, kind, masks


@given(quantised(), st.sampled_from(["float16", "float32"]))
def test_codebooks_decode_to_scaled_sums_or_rows(given_part: Any, dtype: Any) -> None:
    shapes, codes, words, scales, kind, masks = given_part
    targets = [str(n) for n in range(len(shapes))]
    found = through(codebook.part(targets, codes, words, scales, kind, dtype, masks), shapes)
    at = 0
    for n, (shape, scale, tensor) in enumerate(zip(shapes, scales, found, strict=True)):
        kept = np.ones(shape, bool) if masks is None else masks[n]
        dimension = words.shape[2] * (1 if kind == "additive" else len(words))
        rows = codes[at : at + -(-int(kept.sum()) // dimension)]
        at += len(rows)
        picked = [words[m][rows[:, m]] for m in range(len(words))]
        flat = (sum(picked) if kind == "additive" else np.concatenate(picked, 1)).reshape(-1)
        wanted = np.zeros(shape, np.float32)
        wanted[kept] = flat[: int(kept.sum())]
        wanted *= scale.reshape(scale.shape + (1,) * (len(shape) - scale.ndim))
        assert tensor.shape == shape
        np.testing.assert_allclose(tensor, wanted, rtol=1e-6, atol=1e-5)


def test_masks_of_codebooks_are_booleans_whatever_their_type() -> None:
    words = np.ones((1, 1, 2), np.float32)
    (back,) = through(codebook.part(["a"], [[0]], words, [3.0], masks=[[2.0, 0.0, 1.0]]), [(3,)])
    assert back.tolist() == [3.0, 0.0, 3.0]


def test_codewords_without_bytes_are_only_as_many_as_the_values_allow() -> None:
    """Codebooks of one entry: 16 of them, but not 32, for 2^14 vectors of two values."""
    for books in (16, 32):
        words, codes = np.ones((books, 1, 2), np.float32), np.zeros((2**14, books))
        part = codebook.part(["a"], codes, words, [1.0])
        if books == 16:
            assert (through(part, [(2**15,)])[0] == books).all()
        else:
            with pytest.raises(
                BitstreamError, match=r"^32 codebooks for 16384 vectors are too much work for \d+ bytes"
            ):
                through(part, [(2**15,)])


def test_codes_out_of_range_are_refused_on_both_sides() -> None:
    words = np.ones((2, 4, 2), np.float32)
    codes = np.array([[0, 3], [1, 4]])
    with pytest.raises(BitstreamError, match=r"codes for a and others are outside \[0, 4\)"):
        codebook.encode(codebook.part(["a"], codes, words, [1.0]))
    codes = np.array([[0, 3], [1, 3], [2, 2], [3, 1]])  # all four codewords are used
    coded = codebook.encode(codebook.part(["a"], codes, words, [1.0]))
    streams = [stream for _, stream in coded.streams]
    with pytest.raises(BitstreamError, match="outside"):
        codebook.decode({**coded.meta, "shape": [2, 3, 2]}, [streams[0][:24], *streams[1:]], [(8,)])
    for change in ({"shape": [2, 4, 3]}, {"kind": "sum"}, {"masked": True}, {"per_channel": []}, {"packed": [True]}):
        with pytest.raises(BitstreamError):
            codebook.decode({**coded.meta, **change}, streams, [(4,)])
    with pytest.raises(BitstreamError, match="without channels"):
        codebook.decode({**coded.meta, "per_channel": [True]}, streams, [()])


@pytest.mark.parametrize(("n", "books", "size"), [(1000, 2, 256), (777, 3, 16), (5000, 1, 4096)])
def test_even_codes_take_their_bits_and_no_more(n: int, books: int, size: int) -> None:
    codes = np.random.default_rng(0).integers(0, size, (n, books))
    words = np.zeros((books, size, 8), np.float32)
    coded = codebook.encode(codebook.part(["a"], codes, words, [1.0]))
    sizes = [len(stream) for _, stream in coded.streams]
    bits = books * n * math.ceil(math.log2(size))
    assert sizes[:2] == [books * size * 8 * 2, 4]
    assert sizes[2] <= math.ceil(bits / 8) + 4 * books
