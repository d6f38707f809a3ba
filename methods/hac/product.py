"""Products with a matrix that stays in its Huffman code: one weight at a time is decoded (Marinò et al. 2020, Figs. 1 and 2).

Each weight is decoded once for a batch. Columns are independent, so that threads share them: a table says where each begins.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from benchmarks.errors import BitstreamError
from methods.hac.canonical import STEP, Array, Code, symbol, window


@numba.njit(parallel=True, cache=True)
def _hac(
    words: Array,
    ends: Array,
    table: Array,
    first: Array,
    start: Array,
    longest: int,
    step: int,
    values: Array,
    x: Array,
) -> Array:
    rows, batch = x.shape
    out = np.zeros((len(ends), batch), np.float32)
    for column in numba.prange(len(ends)):
        total = out[column]
        at = ends[column - 1] if column else 0
        for row in range(rows):
            place, length = symbol(window(words, at, longest), table, first, start, longest, step)
            at += length
            value = values[place]
            if value != 0:
                for item in range(batch):
                    total[item] += value * x[row, item]
    return out


@numba.njit(parallel=True, cache=True)
def _shac(
    words: Array,
    ends: Array,
    table: Array,
    first: Array,
    start: Array,
    longest: int,
    step: int,
    values: Array,
    x: Array,
    begin: Array,
    places: Array,
) -> Array:
    batch = x.shape[1]
    out = np.zeros((len(ends), batch), np.float32)
    for column in numba.prange(len(ends)):
        total = out[column]
        at = ends[column - 1] if column else 0
        for entry in range(begin[column], begin[column + 1]):
            place, length = symbol(window(words, at, longest), table, first, start, longest, step)
            at += length
            value, row = values[place], places[entry]
            for item in range(batch):
                total[item] += value * x[row, item]
    return out


@torch.library.custom_op("ratebench::hac_product", mutates_args=())
def product(
    x: Tensor,
    stream: Tensor,
    ends: Tensor,
    lengths: Tensor,
    values: Tensor,
    counts: Tensor | None,
    places: Tensor | None,
) -> Tensor:
    """(B, columns) = x (B, rows) · W, where W is in the bytes `stream` of 32-bit words, with the codes of `lengths` (k + 1,).

    `values` (k,) are the non-zero ones; `ends` (columns,) the bits before the end of each column. For sHAC, `counts` (columns,)
    are the non-zero entries of each column and `places` their rows, for HAC None. Raises BitstreamError for a broken code.
    """
    code = Code.of(lengths.cpu().numpy())
    full = np.concatenate([np.zeros(1, np.float32), values.detach().cpu().numpy()])[code.order]
    words = stream.cpu().numpy().view("<u4")
    turned = np.ascontiguousarray(x.detach().cpu().numpy().T)
    tables = code.table, code.first, code.start, code.longest, min(code.longest, STEP)
    bits = ends.cpu().numpy().astype(np.int64)
    if counts is None or places is None:
        out = _hac(words, bits, *tables, full, turned)
    else:
        begin = np.concatenate([[0], np.cumsum(counts.cpu().numpy(), dtype=np.int64)])
        rows = places.cpu().numpy()
        if begin[-1] != len(rows) or (begin < 0).any() or not ((rows >= 0) & (rows < len(turned))).all():
            raise BitstreamError("a sparse matrix has rows beyond its size: the file is damaged")
        out = _shac(words, bits, *tables, full, turned, begin, rows)
    return torch.from_numpy(np.ascontiguousarray(out.T)).to(x.device)


@product.register_fake
def _(x: Tensor, stream: Tensor, ends: Tensor, *_rest: Any) -> Tensor:
    return x.new_empty(x.shape[0], ends.shape[0])


def _flops(x: Tensor, *_rest: Any, out_val: Tensor, **_named: Any) -> int:
    """Those of the dense product: zeros count, as in other layers."""
    return 2 * x.shape[0] * x.shape[1] * out_val.shape[1]


flop_registry[torch.ops.ratebench.hac_product] = _flops
