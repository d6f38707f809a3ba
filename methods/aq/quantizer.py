"""Additive quantisation of vectors: alternating updates of codebooks by least squares and of codes by local search.

Local search quantisation (Martinez et al., "LSQ", ECCV 2016; "LSQ++", ECCV 2018), without the noise of LSQ++. `Search` has
all settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
import torch
from scipy import linalg

from benchmarks.bitstream.codecs.codebook import vectors
from methods.aq import search_torch
from methods.aq.search import local_search, pair_terms
from methods.families.codebooks.means import product, residual

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]
CPU = torch.device("cpu")
STALLED = 1e-4  # stop after an iteration that reduces the error by less than this fraction


@dataclass(frozen=True)
class Search:
    """`iterations` update codebooks and codes; each has `rounds` of `moves` random changes and `sweeps` over the codebooks."""

    iterations: int = 30
    rounds: int = 2
    sweeps: int = 4
    moves: int = 1
    ridge: float = 1e-4


@dataclass(frozen=True)
class Quantised:
    """Codebooks (M, K, d), codes (n, M) and the sum of squared errors."""

    codebooks: Floats
    codes: Codes
    error: float


def learn(x: Floats, books: int, size: int, search: Search, device: torch.device = CPU) -> Quantised:
    """The best codebooks and codes found for vectors (n, d). Codes are searched on `device`.

    The search starts from product quantisation, or from residual quantisation if there are more codebooks than values in a
    vector. Raises MethodError if there are fewer vectors than codewords.
    """
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))  # a worker's share of the cores
    codebooks, codes = (product if books <= x.shape[1] else residual)(x, books, size)
    best = Quantised(codebooks, codes, error(x, codebooks, codes))
    for made in improved(x, codebooks, codes, search, device):
        best = min(best, made, key=lambda q: q.error)
    return best


def improved(
    x: Floats,
    codebooks: Floats,
    codes: Codes,
    search: Search,
    device: torch.device = CPU,
) -> Iterator[Quantised]:
    """One result per iteration: new codes, then least-squares codebooks. Ends early if the error stalls."""
    size, last = codebooks.shape[1], np.inf
    codebooks = least_squares(x, codes, size, search.ridge)
    for step in range(1, search.iterations + 1):
        codes = encode(x, codebooks, codes, search, step, device)
        codebooks = least_squares(x, codes, size, search.ridge)
        made = Quantised(codebooks, codes, error(x, codebooks, codes))
        yield made
        if made.error > (1 - STALLED) * last:
            return
        last = made.error


def encode(x: Floats, codebooks: Floats, codes: Codes, search: Search, seed: int, device: torch.device = CPU) -> Codes:
    """Codes that are at least as good as the given ones, for every vector."""
    effort = search.rounds, search.sweeps, search.moves, seed
    if device.type != "cpu":
        on_device = (torch.from_numpy(a).to(device) for a in (x, codebooks, codes))
        return search_torch.local_search(*on_device, *effort).cpu().numpy()
    columns = np.ascontiguousarray(codebooks.transpose(0, 2, 1))
    better = codes.copy()
    local_search(x, columns, *pair_terms(codebooks), better, *effort)
    return better


def error(x: Floats, codebooks: Floats, codes: Codes) -> float:
    """Σ‖x − Σ c‖² in fp64."""
    return float(np.square(x - vectors(codes, codebooks, "additive"), dtype=np.float64).sum())


def least_squares(x: Floats, codes: Codes, size: int, ridge: float) -> Floats:
    """Codebooks (M, K, d) that minimise the error for fixed codes: (ZᵀZ + λI)⁻¹ Zᵀ X with one-hot rows Z, in fp64.

    ZᵀZ counts how often pairs of codes occur together. It is singular, because a constant vector can move from one
    codebook to another; λ makes the problem solvable.
    """
    books, dimension = codes.shape[1], x.shape[1]
    together = np.empty((books, size, books, size))
    for a in range(books):
        for b in range(a, books):
            counts = np.bincount(codes[:, a].astype(np.int64) * size + codes[:, b], minlength=size * size)
            together[a, :, b] = counts.reshape(size, size)
            together[b, :, a] = together[a, :, b].T
    right = np.empty((books, size, dimension))
    for a in range(books):
        for t in range(dimension):
            right[a, :, t] = np.bincount(codes[:, a], x[:, t], size)
    gram = together.reshape(books * size, -1)
    gram[np.diag_indices_from(gram)] += ridge * len(x) / size
    solved = linalg.solve(gram, right.reshape(books * size, -1), assume_a="pos", overwrite_a=True, overwrite_b=True)
    return solved.reshape(books, size, dimension).astype(np.float32)
