"""Products with Huffman-coded matrices against dense, CSC and decoding first, and encoding against strings of digits.

    pytest benchmarks/perf/test_hac.py -s

Resident bytes are those of the module's tensors and of the decoder's table. All products
have one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from methods.hac.canonical import Code, pack, unpack
from methods.hac.coding import dictionary
from methods.hac.formats import CODED, lengths_of, sparse, symbols_of
from methods.hac.product import product

ROWS, COLUMNS, VALUES = 4096, 1024, 32


def matrix(density: float) -> Any:
    draw = np.random.default_rng(0)
    found = draw.standard_normal(VALUES).astype(np.float32)[draw.integers(0, VALUES, (COLUMNS, ROWS))]
    found[draw.random(found.shape) >= density] = 0
    return found


def seconds(work: Callable[[], object]) -> float:
    """The median of five runs after one."""
    times = []
    for _ in range(6):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[2]


@pytest.mark.parametrize("batch", [1, 8, 64])
@pytest.mark.parametrize("density", [0.4, 0.1, 0.01])
def test_products(density: float, batch: int) -> None:
    torch.set_num_threads(1)
    weight = matrix(density)
    values = dictionary([weight])
    symbols = symbols_of(weight, values)
    lengths = lengths_of([(name, symbols) for name in CODED], len(values))
    x = torch.randn(batch, ROWS)
    dense = torch.from_numpy(weight)
    wanted = x @ dense.T
    base = seconds(lambda: x @ dense.T)
    said = [f"dense {weight.nbytes:,} B, {base * 1e3:.2f} ms"]
    columns, turned = scipy.sparse.csr_array(weight), np.ascontiguousarray(x.numpy().T)
    size = columns.data.nbytes + columns.indices.nbytes + columns.indptr.nbytes
    said.append(
        f"CSC {size / weight.nbytes:.3f} of the bytes, {seconds(lambda: columns @ turned) / base:.1f} of the time"
    )
    for name in CODED:
        code = Code.of(lengths[name])
        words, ends = pack(symbols if name == "hac" else symbols - (symbols == 0), code)
        rows, counts = sparse(weight)
        tensors = [torch.from_numpy(a) for a in (words.view(np.uint8), ends.astype(np.int32), lengths[name], values)]
        more = [None, None] if name == "hac" else [torch.from_numpy(a.astype(np.int16)) for a in (counts, rows)]
        torch.testing.assert_close(product(x, *tensors, *more), wanted, rtol=1e-4, atol=1e-3)
        size = sum(t.nbytes for t in (*tensors, *more) if t is not None) + code.table.nbytes
        ratio = seconds(lambda t=tensors, m=more: product(x, *t, *m)) / base
        said.append(f"{name} {size / weight.nbytes:.3f} of the bytes, {ratio:.1f} of the time")
    full, hac = np.concatenate([[0], values]).astype(np.float32), Code.of(lengths["hac"])
    stream = pack(symbols, hac)[0]
    first = seconds(lambda: x @ torch.from_numpy(full[unpack(stream, hac, symbols.size)].reshape(weight.shape)).T)
    said.append(f"decoding first {first / base:.1f} of the time")
    print(f"\ndensity {density}, batch {batch}: " + "; ".join(said))


def test_encoding_against_strings_of_digits() -> None:
    """As the official code encodes: a text of 0 and 1 for each entry, joined and cut into words."""
    weight = matrix(0.1)[:64]
    values = dictionary([weight])
    symbols = symbols_of(weight, values)
    code = Code.of(lengths_of([("hac", symbols)], len(values))["hac"])
    texts = [f"{number:0{length}b}" for number, length in zip(code.codes.tolist(), code.lengths.tolist(), strict=True)]

    def joined() -> Any:
        text = "".join(texts[symbol] for symbol in symbols.reshape(-1).tolist())
        text += "0" * (-len(text) % 32)
        return np.array([int(text[i : i + 32], 2) for i in range(0, len(text), 32)], np.uint32)

    pack(symbols, code)
    assert np.array_equal(joined(), pack(symbols, code)[0])
    fast, slow = seconds(lambda: pack(symbols, code)), seconds(joined)
    print(
        f"\n{symbols.size:,} entries: {symbols.size / fast / 1e6:.0f} M/s, {slow / fast:.0f} times faster than strings"
    )
