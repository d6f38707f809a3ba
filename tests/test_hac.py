"""HAC and sHAC: codes, formats and products against their definitions."""

from __future__ import annotations

import heapq
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmarks.bitstream import codecs
from benchmarks.errors import BitstreamError
from benchmarks.evaluation import work
from methods import hac
from methods.hac.canonical import LONGEST, Code, code_lengths, pack, unpack
from methods.hac.coding import dictionary, part
from methods.hac.formats import (
    CODED,
    FORMATS,
    all_bits,
    choose,
    group_bits,
    lengths_of,
    read,
    sparse,
    symbols_of,
    written,
)
from methods.hac.modules import HuffmanLinear, described
from methods.hac.notes import psi

EXAMPLE = np.array(  # of the first paper's equation 1; outputs are columns there, and rows here
    [[1, 0, 4, 0, 0], [0, 10, 0, 0, 0], [2, 3, 0, 0, 5], [0, 0, 0, 0, 0], [0, 0, 0, 0, 6]], np.float32
).T


def tree_bits(counts: Any) -> int:
    """The bits of an optimal prefix code, by merging the two smallest counts again and again."""
    heap = [int(count) for count in counts if count]
    heapq.heapify(heap)
    total = heap[0] if len(heap) == 1 else 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


def matrix(rows: int, columns: int, values: int, density: float, seed: int = 0) -> Any:
    """(columns, rows), fp32, with at most `values` non-zero values."""
    draw = np.random.default_rng(seed)
    found = draw.standard_normal(values).astype(np.float32)[draw.integers(0, values, (columns, rows))]
    found[draw.random(found.shape) >= density] = 0
    return found


def coded(weights: list[Any], groups: list[int]) -> Any:
    return codecs.get("hac.matrices").encode(part([f"w{i}" for i in range(len(weights))], weights, groups))


def decoded(found: Any, weights: list[Any]) -> list[Any]:
    streams = [stream for _, stream in found.streams]
    return codecs.get("hac.matrices").decode(found.meta, streams, [weight.shape for weight in weights])


@given(st.lists(st.one_of(st.just(0), st.integers(1, 9), st.integers(1, 10**6)), min_size=1, max_size=80))
def test_codes_are_as_short_as_those_of_a_tree(counts: list[int]) -> None:
    lengths = code_lengths(np.array(counts))
    assert int((np.array(counts) * lengths).sum()) == tree_bits(counts)
    assert [length > 0 for length in lengths] == [count > 0 for count in counts]
    if sum(map(bool, counts)) > 1:
        assert sum(2.0**-length for length in lengths.tolist() if length) == 1
        shares = np.array([count for count in counts if count]) / sum(counts)
        entropy = -(shares * np.log2(shares)).sum()
        assert entropy - 1e-9 <= tree_bits(counts) / sum(counts) < entropy + 1


def test_codes_are_canonical_and_no_code_begins_another() -> None:
    code = Code.of(code_lengths(np.array([5, 1, 9, 9, 2, 0, 30])))
    pairs = zip(code.codes.tolist(), code.lengths.tolist(), strict=True)
    texts = [f"{number:0{length}b}" for number, length in pairs if length]
    assert not any(b.startswith(a) for a, b in itertools.permutations(texts, 2))
    ordered = sorted(texts, key=lambda text: (len(text), text))
    assert ordered == sorted(texts) and [len(text) for text in ordered] == sorted(map(len, texts))
    assert int(ordered[0], 2) == 0 and set(ordered[-1]) == {"1"}


def test_codes_of_a_very_skewed_count_stay_short() -> None:
    """Fibonacci numbers have the longest codes. Wrong code that this finds: codes beyond the decoder's window."""
    counts = [1, 1]
    while len(counts) < 60:
        counts.append(counts[-1] + counts[-2])
    code = Code.of(code_lengths(np.array(counts)))
    assert 12 < code.longest <= LONGEST  # beyond the table of the decoder
    symbols = np.random.default_rng(0).integers(0, 60, (7, 500)).astype(np.int32)
    assert np.array_equal(unpack(pack(symbols, code)[0], code, symbols.size), symbols.reshape(-1))


@settings(max_examples=80, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4),
    values=st.sampled_from([1, 2, 7, 600]),
    density=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    shared_by=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_every_format_decodes_to_the_same_bits(
    shapes: list[tuple[int, int]], values: int, density: float, shared_by: int, seed: int
) -> None:
    weights = [matrix(rows, columns, values, density, seed + i) for i, (columns, rows) in enumerate(shapes)]
    weights[0][:, : weights[0].shape[1] // 2] = 0  # and empty columns
    weights[0][: len(weights[0]) // 2] = 0
    found = coded(weights, [i % shared_by for i in range(len(weights))])
    for wanted, got in zip(weights, decoded(found, weights), strict=True):
        assert got.dtype == np.float32 and np.array_equal(wanted, got)


def test_matrices_of_one_symbol_and_of_very_many() -> None:
    zeros, ones = np.zeros((6, 5), np.float32), np.ones((6, 5), np.float32)
    many = np.arange(1, 2**16 + 1, dtype=np.float32).reshape(256, 256)  # the largest dictionary
    more = np.arange(1, 2**16 + 258, dtype=np.float32).reshape(1, -1)
    twice = np.concatenate([many, many, many, many])
    for weights in ([zeros], [ones], [zeros, ones], [many], [more], [twice], [zeros, twice]):
        found = coded(weights, [0] * len(weights))
        assert all(np.array_equal(a, b) for a, b in zip(weights, decoded(found, weights), strict=True))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("values", [1, 9])
def test_a_format_that_is_not_the_shortest_decodes_too(name: Any, density: float, values: int) -> None:
    """Matrices of one symbol, empty ones, and sizes of 1."""
    for rows, columns in ((1, 1), (1, 30), (30, 1), (300, 20)):
        weight = matrix(rows, columns, values, density)
        known = dictionary([weight])
        lengths = lengths_of([(name, symbols_of(weight, known))], len(known)).get(name, np.zeros(1))
        code = Code.of(lengths) if lengths.any() else None
        assert np.array_equal(read(name, written(name, weight, known, code), weight.shape, known, code), weight)


def test_a_decoder_with_a_tree_reads_the_same_symbols() -> None:
    """Bit by bit, from the codes as texts."""
    symbols = np.random.default_rng(0).zipf(1.4, (6, 90)).clip(0, 40).astype(np.int32)
    code = Code.of(code_lengths(np.bincount(symbols.reshape(-1))))
    pairs = enumerate(zip(code.codes.tolist(), code.lengths.tolist(), strict=True))
    known = {f"{number:0{length}b}": symbol for symbol, (number, length) in pairs if length}
    words, ends = pack(symbols, code)
    found, begun, stops = [], "", []
    for at, bit in enumerate("".join(f"{word:032b}" for word in words.tolist())):
        begun += bit
        if begun in known and len(found) < symbols.size:
            found.append(known[begun])
            begun = ""
            if len(found) % 90 == 0:
                stops.append(at + 1)
    assert found == symbols.reshape(-1).tolist() and stops == ends.tolist()


def test_the_choice_is_no_worse_than_any_pair_of_formats() -> None:
    """Two matrices that share a dictionary, against all pairs; the codes count, too."""
    worse = 0
    for seed in range(40):
        draw = np.random.default_rng(seed)
        group = [
            symbols_of(weight, np.unique(weight[weight != 0]))
            for weight in (
                matrix(int(draw.integers(2, 300)), 20, 30, float(draw.choice([0.02, 0.3, 1])), seed) for _ in "ab"
            )
        ]
        known = int(max(symbols.max() for symbols in group))
        best = min(group_bits(pair, group, known) for pair in itertools.product(FORMATS, repeat=2))
        worse += group_bits(choose(group, known), group, known) > 1.03 * best
    assert worse == 0


def test_each_format_is_chosen_where_it_is_the_shortest() -> None:
    """And the file has as many bytes as were counted. Wrong code that this finds: one format for all, or words not padded."""
    wanted = {
        "hac": matrix(300, 400, 8, 0.6),
        "shac": matrix(2000, 300, 8, 0.02),
        "csc": matrix(200, 100, 20_000, 0.05),
        "map": matrix(2, 4000, 3, 0.75),  # the table of column starts is too long
        "dense": matrix(100, 100, 20_000, 1.0),
    }
    for name, weight in wanted.items():
        found = coded([weight], [0])
        assert FORMATS[found.meta["formats"][0]] == name
        values = dictionary([weight]) if found.meta["values"][0] else np.zeros(0, np.float32)
        assert len(found.streams[0][1]) == 4 * len(values)
        symbols = symbols_of(weight, dictionary([weight]))
        own = lengths_of([(name, symbols)], len(dictionary([weight])))  # type: ignore[list-item]
        bits = all_bits(symbols, len(dictionary([weight])), own)[name]  # type: ignore[index]
        assert 8 * (len(found.streams[2][1]) + len(found.streams[3][1])) - bits in range(
            16, 80
        )  # lengths of the blocks


def test_layers_of_a_group_share_a_dictionary() -> None:
    weights = [matrix(200, 50, 30, 0.5), matrix(200, 50, 30, 0.5)]
    together, apart = coded(weights, [0, 0]), coded(weights, [0, 1])
    assert together.meta["values"] == [30] and apart.meta["values"] == [30, 30]
    assert len(together.streams[0][1]) == 120 and len(apart.streams[0][1]) == 240


def test_the_example_of_the_paper() -> None:
    values = dictionary([EXAMPLE])
    symbols = symbols_of(EXAMPLE, values)
    lengths = lengths_of([(name, symbols) for name in CODED], len(values))
    totals = {
        name: int(lengths[name].astype(int)[symbols[symbols > 0] if name == "shac" else symbols].sum())
        for name in CODED
    }
    assert totals == {"hac": 45, "shac": 20} and lengths["hac"][0] == 1
    rows, counts = sparse(EXAMPLE)
    assert rows.tolist() == [0, 2, 1, 2, 0, 2, 4] and np.cumsum([0, *counts]).tolist() == [0, 2, 4, 5, 5, 7]
    words, ends = pack(symbols, Code.of(lengths["hac"]))
    assert len(words) == 2 and ends[-1] == 45 and int(words[1]) & 0x7FFFF == 0  # 19 bits of padding


@pytest.mark.parametrize(
    ("density", "wanted"),
    [
        (0.4, (0.0939, 0.2631, 0.6004, 0.1875)),
        (0.1, (0.0471, 0.0665, 0.1509, 0.1875)),
        (0.05, (0.0393, 0.0336, 0.0758, 0.1875)),
        (0.01, (0.0330, 0.0073, 0.0157, 0.1875)),
    ],
)
def test_psi_of_random_matrices(density: float, wanted: tuple[float, ...]) -> None:
    """1024 × 1024 with 32 values. The values measured with another implementation are of other random matrices."""
    weight = matrix(1024, 1024, 32, density)
    found = psi([weight], dictionary([weight]))
    assert [found[name] for name in ("hac", "shac", "csc", "map")] == pytest.approx(wanted, rel=0.03, abs=3e-4)
    n, s, k = 1024, density, 32
    assert found["hac"] <= (1 + np.log2(k)) / 32 + 6 * k / n**2  # Marinò et al. 2020, Section IV
    assert found["shac"] <= s * 1.02 * (1 + np.log2(k)) / 32 + 6 * k / n**2 + (s * 1.02 * n**2 + n + 1) / n**2
    assert found["hac"] >= 1 / 32


def test_sparser_matrices_take_less_in_shac() -> None:
    sizes = []
    for density in (0.5, 0.2, 0.1, 0.03, 0.01):
        weight = matrix(400, 300, 16, density)
        sizes.append(psi([weight], dictionary([weight])))
    assert [one["shac"] for one in sizes] == sorted((one["shac"] for one in sizes), reverse=True)
    assert sizes[0]["hac"] < sizes[0]["shac"] and sizes[-1]["shac"] < sizes[-1]["hac"]


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("density", [1.0, 0.3, 0.0])
def test_products_from_the_stream_are_those_of_the_weight(name: Any, density: float) -> None:
    """Also at the ends: empty columns, and one input. Wrong code that this finds: column starts off by one."""
    for rows, columns in ((1, 1), (5, 9), (70, 33)):
        weight = matrix(rows, columns, 6, density, rows)
        weight[-1] = 0
        layer = nn.Linear(rows, columns)
        layer.weight = nn.Parameter(torch.from_numpy(weight))
        module = compressed(layer, name)
        if module is None:
            continue  # nothing to code
        x = torch.randn(7, rows)
        wanted = layer(x).detach()
        torch.testing.assert_close(module(x), wanted, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(torch.cat([module(one) for one in x.split(1)]), module(x), rtol=1e-6, atol=1e-6)
        assert module(x[None]).shape == (1, 7, columns)
        assert work.followed(module, x).macs == work.planned(module, x).macs == rows * columns


def compressed(layer: nn.Linear, name: Any) -> nn.Module | None:
    """The module as a decoder fills it; None for sHAC without an entry, which has no code."""
    values = dictionary([layer.weight.detach().numpy()])
    symbols = symbols_of(layer.weight.detach().numpy(), values)
    lengths = lengths_of([(name, symbols)], len(values))[name]
    if not lengths.any():
        return None
    spec, parts = described("layer", layer, name, values, Code.of(lengths))
    module = hac.MODULES["linear"].build(spec.arguments, [])
    state = dict(module.named_parameters()) | dict(module.named_buffers())
    with torch.no_grad():
        for one in parts:
            own = codecs.get(one.codec).encode(one)
            shapes = [tuple(state[target.removeprefix("layer.")].shape) for target in one.targets]
            arrays = codecs.get(one.codec).decode(own.meta, [stream for _, stream in own.streams], shapes)
            for target, array in zip(one.targets, arrays, strict=True):
                state[target.removeprefix("layer.")].copy_(torch.from_numpy(array))
        state["bias"].copy_(layer.bias)
    return module.requires_grad_(False)


@pytest.mark.parametrize("change", ["lengths", "ends", "places", "counts"])
def test_a_module_with_other_tables_reads_nothing_else(change: str) -> None:
    """A file may hold any numbers. Wrong code that this finds: reading beyond the stream or the input."""
    weight = matrix(40, 20, 6, 0.2)
    layer = nn.Linear(40, 20)
    layer.weight = nn.Parameter(torch.from_numpy(weight))
    module = compressed(layer, "shac")
    assert isinstance(module, HuffmanLinear)
    tensor = getattr(module, change)
    for value in (2**31 - 1, -(2**31), -1) if change == "ends" else (255,):
        tensor.fill_(value)
        with pytest.raises(BitstreamError, match="damaged"):
            module(torch.randn(3, 40))


def test_counts_below_zero_and_inputs_of_another_width_are_refused() -> None:
    layer = nn.Linear(300, 4)
    layer.weight = nn.Parameter(torch.from_numpy(matrix(300, 4, 6, 0.05)))
    module = compressed(layer, "shac")
    assert isinstance(module, HuffmanLinear) and module.counts is not None
    for features in (7, 301):
        with pytest.raises(ValueError, match="300 features"):
            module(torch.randn(2, features))
    assert module(torch.randn(0, 300)).shape == (0, 4)
    total = int(module.counts.sum())
    module.counts.copy_(torch.tensor([32000, -32000, total, 0]))
    with pytest.raises(BitstreamError, match="damaged"):
        module(torch.randn(2, 300))
    for wrong in (
        {"size": 4, "known": 3},
        {"size": 4000, "known": 3, "entries": 1300},
        {"size": 4, "known": 3, "entries": 40},
    ):
        with pytest.raises(ValueError, match="size has to"):
            hac.MODULES["linear"].build({"in_features": 300, "out_features": 4, **wrong}, [])


def test_streams_that_no_encoder_writes_are_refused() -> None:
    weights = [matrix(60, 50, 8, 0.6), matrix(500, 30, 8, 0.03), matrix(60, 5, 5000, 0.1)]
    found = coded(weights, [0, 0, 1])
    streams = [bytearray(stream) for _, stream in found.streams]
    draw, refused = np.random.default_rng(0), 0
    for _ in range(300):
        changed = [bytearray(stream) for stream in streams]
        which = int(draw.integers(0, 4))
        changed[which][int(draw.integers(0, len(changed[which])))] ^= 1 << int(draw.integers(0, 8))
        try:
            got = codecs.get("hac.matrices").decode(found.meta, list(map(bytes, changed)), [w.shape for w in weights])
        except BitstreamError:
            refused += 1
            continue
        assert [array.shape for array in got] == [weight.shape for weight in weights]
    assert refused > 100, refused
    for meta in (
        {"values": [2**17, 1]},
        {"groups": [0, 0, 7]},
        {"groups": [0, 0, 0]},
        {"formats": [2, 2, 2]},
        {"formats": [0, 0, 9]},
        {"codes": [[1], [1]]},
        {"packed": []},
    ):
        with pytest.raises(BitstreamError):
            codecs.get("hac.matrices").decode(
                {**found.meta, **meta}, list(map(bytes, streams)), [w.shape for w in weights]
            )
    with pytest.raises(BitstreamError, match="complete code"):
        Code.of(np.array([1, 2, 3]))
