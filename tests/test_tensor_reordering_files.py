"""Files of reordered weights: coefficients by other codecs, and permutations in the bits that they need."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tensor_reordering import normal

from benchmarks.bitstream.codecs import raw, uniform
from benchmarks.errors import BitstreamError
from methods.tensor_reordering import coding
from methods.tensor_reordering.accounting import _dense
from methods.tensor_reordering.layers import weights
from methods.tensor_reordering.tour import tour
from methods.tensor_reordering.transform import Reordered, analysed


def coded(found: Reordered, step: float | None = None) -> tuple[Any, list[bytes]]:
    if step is None:
        inner = raw.part(["w"], [found.coefficients], "weights")
    else:
        inner = uniform.part(["w"], [uniform.quantise(found.coefficients, step)[0]], [step], "weights")
    made = coding.encode(coding.part(["w"], [found], inner))
    return made.meta, [stream for _, stream in made.streams]


@settings(max_examples=30, deadline=None)
@given(
    groups=st.integers(1, 5), columns=st.integers(1, 40), permuted=st.booleans(), step=st.sampled_from([None, 0.125])
)
def test_a_file_gives_the_weight_again(groups: int, columns: int, permuted: bool, step: float | None) -> None:
    weight = normal(groups * columns, 1, seed=columns)
    found = analysed(weight, groups, tour(weight.reshape(groups, -1)) if permuted else None).lowest((columns + 1) // 2)
    meta, streams = coded(found, step)
    (decoded,) = coding.decode(meta, streams, [weight.shape])
    if step is None:
        assert np.array_equal(
            decoded, Reordered(found.coefficients.astype(np.float32), found.inverse, found.shape).weight()
        )
    else:  # the transform is orthonormal: no error is larger than that of all roundings together
        assert np.linalg.norm(decoded - found.weight()) <= step / 2 * math.sqrt(found.coefficients.size) + 1e-5


def test_an_index_takes_the_bits_that_it_needs() -> None:
    for columns, bits in ((144, 8), (256, 8), (257, 9)):
        weight = normal(4, columns)
        _, streams = coded(analysed(weight, 4, tour(weight)))
        assert len(streams[1]) - math.ceil(columns * bits / 8) in (1, 2)  # the length of the block


def test_permutations_of_the_tables_take_the_megabytes_that_a_recount_gives() -> None:
    """Packed indices of ResNet-50 with 4 and 8 rows and of MobileNet-V2 with 4, by hand from log₂N of each layer."""
    skip = tuple(f"features.{number}" for number in range(8))
    for network, groups, left, megabytes in (
        ("resnet50", 4, (), 14.5),
        ("resnet50", 8, (), 6.9),
        ("mobilenet_v2", 4, skip, 1.8),
    ):
        columns = [weight.numel() // groups for weight in weights(_dense(network), groups, left).values()]
        assert sum(n * coding._width(n) for n in columns) / 8e6 == pytest.approx(megabytes, abs=0.05)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"groups": [7]}, "7 × 10 coefficients don't give a weight of 80 values"),
        ({"groups": [0]}, "0 × 10"),
        ({"groups": [80], "kept": [1]}, "80 × 1"),
        ({"groups": [4.0]}, "4.0 × 10"),
        ({"groups": [True], "kept": [80]}, "True × 80"),
        ({"kept": [10.0]}, "4 × 10.0"),
        ({"kept": [21]}, "4 × 21"),
        ({"kept": [0]}, "4 × 0"),
        ({"codec": "sparse"}, "another codec or other streams"),
    ],
)
def test_a_damaged_part_is_refused(change: dict[str, Any], complaint: str) -> None:
    weight = normal(80)
    meta, streams = coded(analysed(weight, 4, tour(weight.reshape(4, -1))).lowest(10))
    with pytest.raises(BitstreamError, match=complaint):
        coding.decode({**meta, **change}, streams, [weight.shape])


def test_an_order_that_is_no_permutation_is_refused() -> None:
    weight = normal(80)
    found = analysed(weight, 4, tour(weight.reshape(4, -1)))
    assert found.inverse is not None
    for place, value in ((3, found.inverse[4]), (3, 31)):
        found.inverse[place] = value
        meta, streams = coded(found)
        with pytest.raises(BitstreamError, match="is no permutation"):
            coding.decode(meta, streams, [weight.shape])
