"""k-means (faiss) on vectors, residuals or subspaces, for all vector quantisers.

faiss draws its initial centroids with a fixed seed: the same vectors and number of threads give the same codewords. Its own
product quantiser needs a dimension divisible by M, and its residual quantiser uses a beam search, which is not needed here.
"""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.errors import MethodError

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]


def k_means(x: Floats, size: int, iterations: int = 25) -> tuple[Floats, Codes]:
    """Centroids (size, d) and, for each vector (n, d), the index of the nearest one.

    Raises MethodError if there are fewer vectors than centroids.
    """
    if size > len(x):
        msg = f"{size} codewords for {len(x)} vectors are too many: choose fewer codewords or shorter vectors"
        raise MethodError(msg)
    faiss.omp_set_num_threads(torch.get_num_threads())  # this worker's share of the cores
    means = faiss.Kmeans(x.shape[1], size, niter=iterations, min_points_per_centroid=1, max_points_per_centroid=2**20)
    means.train(x)
    return means.centroids.astype(np.float32), means.index.search(x, 1)[1][:, 0].astype(np.int32)


def residual(x: Floats, books: int, size: int) -> tuple[Floats, Codes]:
    """Residual quantisation: codebooks (M, K, d), each by k-means on the residuals of those before, and codes (n, M)."""
    rest = x.copy()
    codebooks = np.empty((books, size, x.shape[1]), np.float32)
    codes = np.empty((len(x), books), np.int32)
    for m in range(books):
        codebooks[m], codes[:, m] = k_means(rest, size)
        rest -= codebooks[m][codes[:, m]]
    return codebooks, codes


def product(x: Floats, books: int, size: int) -> tuple[Floats, Codes]:
    """Product quantisation: k-means on M subspaces; each codebook (K, d) is zero outside its subspace."""
    codebooks = np.zeros((books, size, x.shape[1]), np.float32)
    codes = np.empty((len(x), books), np.int32)
    for m, piece in enumerate(np.array_split(np.arange(x.shape[1]), books)):
        codebooks[m][:, piece], codes[:, m] = k_means(np.ascontiguousarray(x[:, piece]), size)
    return codebooks, codes
