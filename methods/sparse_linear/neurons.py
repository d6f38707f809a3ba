"""Which weights of a neuron stay: three rules, each for all neurons of a layer (rows of a weight) at once.

A row w of d weights is replaced by few non-zero ones. Everything is in fp64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SWEEPS = 10_000  # of the coordinate descent, at most
TOLERANCE = 1e-5  # largest change in the last sweep, relative to the largest weight
Floats: TypeAlias = npt.NDArray[np.float64]


def sparsity_index(rows: Tensor, q: float) -> Tensor:
    """SI_q = ‖w‖₁ / ‖w‖_q of each row of (N, d), with 0 < q < 1: from d^(1 − 1/q) for equal weights to 1 for a single one.

    1 for a row of zeros.
    """
    largest = rows.abs().amax(1, keepdim=True)
    scaled = rows.abs() / torch.where(largest > 0, largest, 1.0)
    total = scaled.pow(q).sum(1).pow(1 / q)
    return torch.where(total > 0, scaled.sum(1) / torch.where(total > 0, total, 1.0), 1.0)


def kept(rows: Tensor, eta: float, q: float) -> Tensor:
    """The number (N,) of weights to keep: m = ⌈(1 + η)^(−1/(1−q)) · SI_q^(−q/(1−q))⌉ ≤ d; 0 for a row of zeros.

    If the m largest weights leave at most the share η of Σ|w|^q to the others, m is at least that.
    """
    bound = (1 + eta) ** (-1 / (1 - q)) * sparsity_index(rows, q).pow(-q / (1 - q))
    found = (bound * (1 - 1e-12)).ceil().clamp(1, rows.shape[1])
    return torch.where(rows.any(1), found, 0.0).long()


def largest(rows: Tensor, counts: Tensor) -> Tensor:
    """A mask (N, d) of the `counts` (N,) largest magnitudes of each row; of equal ones, the first."""
    places = rows.abs().argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return places < counts[:, None]


def without_smallest(rows: Tensor, share: float) -> Tensor:
    """A mask (N, d) without the `share` of each row with the smallest magnitudes."""
    count = rows.shape[1] - int(share * rows.shape[1] + 1e-9)
    return largest(rows, torch.full((len(rows),), count))


def lasso(gram: Tensor, rows: Tensor, penalties: Sequence[float]) -> list[Tensor]:
    """For each penalty λ, the rows v that minimise ½ (v − w)ᵀ G (v − w) + λ ‖v‖₁, for rows w (N, d) and G (d, d).

    With G = XᵀX/n of centred inputs X (n, d), this is the Lasso of X w on X with an intercept, in scikit-learn's convention.
    The path from the largest penalty down is found by coordinate descent: each solution is the start of the next.
    """
    path, start = {}, np.zeros(rows.shape)
    for penalty in sorted(penalties, reverse=True):
        path[penalty] = start = _descended(gram.numpy(), rows.numpy(), start, penalty)
    return [torch.from_numpy(path[penalty]) for penalty in penalties]


@numba.njit(cache=True)
def _descended(gram: Floats, rows: Floats, start: Floats, penalty: float) -> Floats:
    found = start.copy()
    for n in range(len(rows)):
        own = found[n]
        slopes = gram @ (rows[n] - own)  # of the squared error, negative
        for _ in range(SWEEPS):
            change = largest = 0.0
            for j in range(len(own)):
                curvature, before = gram[j, j], own[j]
                best = slopes[j] + curvature * before
                # An input that never varies explains nothing.
                own[j] = np.sign(best) * max(abs(best) - penalty, 0.0) / curvature if curvature > 0 else 0.0
                if own[j] != before:
                    slopes -= (own[j] - before) * gram[j]
                change, largest = max(change, abs(own[j] - before)), max(largest, abs(own[j]))
            if change <= TOLERANCE * largest:
                break
    return found
