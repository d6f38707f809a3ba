"""Which weights of a neuron stay: three rules, each for all neurons of a layer (rows of a weight) at once.

A row w of d weights is replaced by few non-zero ones. Everything is in fp64.
"""

from __future__ import annotations

import torch
from torch import Tensor

SWEEPS, TOLERANCE = (
    2_000,
    1e-6,
)  # of the coordinate descent; the largest change in a sweep, relative to the largest weight


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


def lasso(gram: Tensor, rows: Tensor, penalty: float, start: Tensor | None = None) -> Tensor:
    """The rows v that minimise ½ (v − w)ᵀ G (v − w) + λ ‖v‖₁ for rows w (N, d) and the Gram matrix G (d, d) of the inputs.

    With G = XᵀX/n this is the Lasso of X w on X (in scikit-learn's convention), by coordinate descent from `start`.
    """
    found = (rows if start is None else start).clone()
    slopes = (rows - found) @ gram  # of the squared error, negative
    diagonal = gram.diagonal()
    live = [int(j) for j in diagonal.nonzero()[:, 0]]
    found[:, diagonal == 0] = 0.0  # an input that never varies explains nothing
    for _ in range(SWEEPS):
        change = 0.0
        for j in live:
            best = slopes[:, j] + diagonal[j] * found[:, j]
            step = (best.abs() - penalty).clamp_min(0) * best.sign() / diagonal[j] - found[:, j]
            if step.any():
                found[:, j] += step
                slopes -= step[:, None] * gram[j]
                change = max(change, float(step.abs().max()))
        if change <= TOLERANCE * float(found.abs().max()):
            return found
    return found
