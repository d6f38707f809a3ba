"""Products with a matrix that stays in its Huffman code: one weight at a time is decoded (Marinò et al. 2020, Figs. 1 and 2).

Each weight is decoded once for a batch. Columns are independent, so that threads share them: a table says where each begins.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, library
from torch.utils.flop_counter import flop_registry

from benchmarks.errors import BitstreamError
from methods.hac.canonical import STEP, WORD, Code
from methods.hac.kernels import hac, shac


@functools.lru_cache(maxsize=256)
def _code(lengths: bytes) -> Code:
    """The tables of a layer are made once."""
    return Code.of(np.frombuffer(lengths, np.uint8))


@library.custom_op("ratebench::hac_product", mutates_args=())
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
    code = _code(lengths.cpu().numpy().tobytes())
    full = np.concatenate([np.zeros(1, np.float32), values.detach().cpu().numpy()])[code.order]
    words = stream.cpu().numpy().view("<u4")
    turned = np.ascontiguousarray(x.detach().cpu().numpy().T)
    bits = ends.cpu().numpy().astype(np.int64)
    if (bits < 0).any() or (np.diff(bits) < 0).any() or (bits > WORD * len(words)).any():
        raise BitstreamError("columns of a compressed matrix begin beyond its stream: the file is damaged")
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    tables = code.table, code.first, code.start, code.longest, min(code.longest, STEP)
    if counts is None or places is None:
        out = hac(words, bits, *tables, full, turned)
    else:
        own, rows = counts.cpu().numpy().astype(np.int64), places.cpu().numpy()
        if (own < 0).any() or own.sum() != len(rows) or not ((rows >= 0) & (rows < len(turned))).all():
            raise BitstreamError("a sparse matrix has rows beyond its size: the file is damaged")
        out = shac(words, bits, *tables, full, turned, np.concatenate([[0], np.cumsum(own)]), rows)
    return torch.from_numpy(np.ascontiguousarray(out.T)).to(x.device)


@product.register_fake
def _(x: Tensor, stream: Tensor, ends: Tensor, *_rest: Any) -> Tensor:
    return x.new_empty(x.shape[0], ends.shape[0])


def _flops(x: Tensor, *_rest: Any, out_val: Tensor, **_named: Any) -> int:
    """Those of the dense product: zeros count, as in other layers."""
    return 2 * x.shape[0] * x.shape[1] * out_val.shape[1]


flop_registry[torch.ops.ratebench.hac_product] = _flops
