"""Codes for given codebooks: iterated local search with conditional modes (Martinez et al., LSQ, ECCV 2016).

The error of a vector is quadratic in its one-hot codes: terms of single codewords `U` and of pairs `G`. One step sets
the code of one codebook to its best value given all others. For each vector, the sums T = U + Σ G of all K values of each
codebook are stored and updated only when a code changes, so that most steps read only K numbers.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]
BLOCK = 512  # vectors per thread and work space


def pair_terms(codebooks: Floats) -> tuple[Floats, Floats]:
    """(‖c‖² of each codeword (M, K), 2⟨c, c'⟩ of pairs (M, M, K, K)): G[a, b, j] is the row of a's K values for code j of b."""
    flat = codebooks.reshape(-1, codebooks.shape[2])
    books, size = codebooks.shape[:2]
    inner = 2 * (flat @ flat.T).reshape(books, size, books, size)
    return np.square(codebooks).sum(2), np.ascontiguousarray(inner.transpose(0, 2, 3, 1))


@numba.njit(fastmath=True)
def _argmin(row: Any) -> int:
    """Two passes, because a single pass that tracks the index is not vectorised."""
    least = row[0]
    for k in range(1, row.shape[0]):
        least = min(least, row[k])
    for k in range(row.shape[0]):
        if row[k] == least:
            return k
    return 0


@numba.njit(fastmath=True)
def _change(terms: Any, pairs: Any, book: int, old: int, new: int) -> None:
    """Update the sums of all other codebooks after one code has changed."""
    for other in range(terms.shape[0]):
        if other != book:
            row, gone, come = terms[other], pairs[other, book, old], pairs[other, book, new]
            for k in range(row.shape[0]):
                row[k] += come[k] - gone[k]


@numba.njit(inline="always")
def _random(state: Any) -> Any:
    """xorshift64: each vector has its own stream, so that the result does not depend on threads."""
    state ^= state >> np.uint64(12)
    state ^= state << np.uint64(25)
    state ^= state >> np.uint64(27)
    return state


@numba.njit(fastmath=True)
def _error(single: Any, terms: Any, code: Any) -> float:
    """‖x − Σ c‖² − ‖x‖²: each pair is contained in the sums of both of its codebooks."""
    total = 0.0
    for m in range(code.shape[0]):
        total += 0.5 * (single[m, code[m]] + terms[m, code[m]])
    return total


@numba.njit(parallel=True, fastmath=True, cache=True)
def local_search(
    x: Floats,
    columns: Floats,
    norms: Floats,
    pairs: Floats,
    codes: Codes,
    rounds: int,
    sweeps: int,
    moves: int,
    seed: int,
) -> None:
    """Improve `codes` (n, M) in place; the error of no vector increases. `columns` are codebooks as (M, d, K).

    `rounds` times: change `moves` random codes of the best found, then `sweeps` times set each codebook's code to its
    best; keep the result if it is better. Without rounds, only sweeps are made.
    """
    n, d = x.shape
    books, size = norms.shape
    for block in numba.prange((n + BLOCK - 1) // BLOCK):
        single = np.empty((books, size), np.float32)
        terms = np.empty((books, size), np.float32)
        kept = np.empty((books, size), np.float32)
        code = np.empty(books, np.int32)
        for i in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            for m in range(books):
                for k in range(size):
                    single[m, k] = norms[m, k]
                for t in range(d):
                    factor = np.float32(-2) * x[i, t]
                    for k in range(size):
                        single[m, k] += factor * columns[m, t, k]
            terms[:] = single
            for m in range(books):
                code[m] = codes[i, m]
                for other in range(books):
                    if other != m:
                        for k in range(size):
                            terms[other, k] += pairs[other, m, code[m], k]
            best = _error(single, terms, code)
            state = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(i + 1) * np.uint64(0xBF58476D1CE4E5B9)
            state |= np.uint64(1)
            for _round in range(max(rounds, 1)):
                kept[:] = terms
                if rounds > 0:
                    for _move in range(moves):
                        state = _random(state)
                        book = np.int64(state >> np.uint64(33)) % books
                        state = _random(state)
                        new = np.int64(state >> np.uint64(33)) % size
                        _change(terms, pairs, book, code[book], new)
                        code[book] = new
                for _sweep in range(sweeps):
                    changed = False
                    for m in range(books):
                        new = _argmin(terms[m])
                        if new != code[m]:
                            _change(terms, pairs, m, code[m], new)
                            code[m] = new
                            changed = True
                    if not changed:
                        break
                found = _error(single, terms, code)
                if found < best:
                    best = found
                    for m in range(books):
                        codes[i, m] = code[m]
                else:
                    terms[:] = kept
                    for m in range(books):
                        code[m] = codes[i, m]
