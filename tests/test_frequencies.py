"""The frequency tables that a decoder computes for itself: integers that every machine and library must find alike."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest

from benchmarks.bitstream import entropy
from benchmarks.bitstream.entropy import _dyadic, _geometric, decode_integers, encode_integers


def shared(counts: list[int], bits: int) -> list[int]:
    """Largest remainders in plain integers: of equal remainders, the earlier symbol gets the unit."""
    total, whole = sum(counts), 1 << bits
    found = [max(1, count * whole // total) if count else 0 for count in counts]
    left = whole - sum(found)
    if left > 0:
        order = sorted(range(len(counts)), key=lambda i: (-(counts[i] * whole % total), i))
        for i in order[:left]:
            found[i] += 1
    while left < 0:  # rare symbols were raised to one: the most frequent one pays, at most half of what it has
        largest = found.index(max(found))
        take = min(-left, max(1, found[largest] // 2))
        found[largest] -= take
        left += take
    return found


def falling(size: int, centre: int, ratio: int) -> list[int]:
    """A geometric distribution before it is scaled, step by step in plain integers."""
    steps = [1 << 20]
    for _ in range(size):
        steps.append(max(1, steps[-1] * ratio // 4096))
    return [steps[abs(i - centre)] for i in range(size)]


def alike(seed: int, size: int, kinds: int) -> list[int]:
    """Counts of a few kinds in random order, so that many remainders are equal."""
    draws = random.Random(seed)
    values = [draws.randrange(1, 50) for _ in range(kinds)]
    return [draws.choice(values) for _ in range(size)]


MANY_EQUAL = {
    "all equal": [1] * 1000,
    "two kinds": [3, 5] * 300,
    "half of nothing": [0, 7] * 400,
    "rare ones": [1] * 600 + [10**6] + [1] * 400,
    "two giants": [10**6, *[1] * 1000, 10**6],
    **{f"{kinds} kinds of {size}": alike(kinds, size, kinds) for size in (17, 100, 999) for kinds in (1, 2, 3, 9)},
}


@pytest.mark.parametrize("bits", [12, 20])
@pytest.mark.parametrize("counts", MANY_EQUAL.values(), ids=MANY_EQUAL)
def test_tables_share_equal_remainders_in_order(counts: list[int], bits: int) -> None:
    found = _dyadic(np.array(counts, np.int64), bits).tolist()
    assert found == shared(counts, bits)
    assert sum(found) == 1 << bits and all((f > 0) == (c > 0) for f, c in zip(found, counts, strict=True))


def test_a_table_by_hand() -> None:
    """4096 / 1000 leaves 96, for the first symbols; 16 · 3 / 5 and 16 · 2 / 5 leave 3/5 and 2/5, so the first is rounded up."""
    assert _dyadic(np.ones(1000, np.int64), 12).tolist() == [5] * 96 + [4] * 904
    assert _dyadic(np.array([3, 2]), 4).tolist() == [10, 6]
    assert _dyadic(np.array([1, 1, 1]), 4).tolist() == [6, 5, 5]
    assert _dyadic(np.array([100, 1, 0, 1, 1]), 2).tolist() == [1, 1, 0, 1, 1]


@pytest.mark.parametrize("ratio", [0, 1, 2048, 4000, 4095])
@pytest.mark.parametrize(("size", "centre"), [(1, 0), (40, 20), (101, 0), (300, 299)])
@pytest.mark.parametrize("escaped", [0, 3])
def test_geometric_frequencies_in_plain_integers(size: int, centre: int, ratio: int, escaped: int) -> None:
    """Steps to either side of the centre are equally frequent: half of all remainders have a twin."""
    counts = []
    for symbol in range(size):
        count = 2**20
        for _ in range(abs(symbol - centre)):
            count = max(1, count * ratio // 4096)
        counts.append(count)
    if escaped:
        counts.append(min(max(sum(counts) * escaped // 50, 1), 2**40))
    assert _geometric(size, centre, ratio, escaped, 50).tolist() == shared(counts, 20)


GOLDEN = {  # values, and the first half of the SHA-256 of their stream in the first version of the format
    "one of each of 200": (list(range(200)), "2d256b4daaec5f16"),
    "two kinds": ([n for n in range(-60, 60) for _ in range(3 + 2 * (n % 2))], "7922582c015bbefa"),
    "few": ([0] * 30 + [1, -1] * 9 + [2, -2, 3, -3], "d90aaaaa69af9612"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_streams_with_many_equal_remainders_stay_as_they_are(name: str) -> None:
    values, digest = GOLDEN[name]
    data = encode_integers(values)
    assert decode_integers(data, len(values)).tolist() == values
    assert hashlib.sha256(data).hexdigest()[:16] == digest


@pytest.mark.parametrize("ratio", [0, 1, 100, 2048, 4000, 4094, 4095])
def test_geometric_frequencies_are_those_of_plain_integers(ratio: int) -> None:
    for size, centre in ((1, 0), (2, 1), (3, 0), (17, 16), (300, 44), (1024, 0), (1024, 512), (1024, 1023)):
        counts = falling(size, centre, ratio)
        assert _geometric(size, centre, ratio, 0, 1).tolist() == shared(counts, 20)
        escapes = min(max(sum(counts) * 3 // 40, 1), 2**40)
        assert _geometric(size, centre, ratio, 3, 40).tolist() == shared([*counts, escapes], 20)


def test_a_thousand_ratios_are_computed_together() -> None:
    """A stream of seven bytes may name a distribution of 1,024 values: none takes a loop of its own."""
    entropy._falling.cache_clear()
    for ratio in range(0, 4096, 4):
        _geometric(1024, 0, ratio, 0, 1)
        _geometric(1024, 100, ratio, 0, 1)
    assert entropy._falling.cache_info().misses == 1
