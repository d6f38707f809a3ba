"""Ternary weights from a seed: exact numbers of −1, 0 and 1 in random places, the same on every machine."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Codes = npt.NDArray[np.int8]
_STEP = np.uint64(0x9E3779B97F4A7C15)


def signs(size: int, eps: float) -> int:
    """How many of `size` weights are 1, and as many are −1: a share `eps` is 0, up to rounding."""
    return min(round((1 - eps) / 2 * size), size // 2)


def scale(eps: float) -> float:
    """The magnitude of the weights that are not 0, for a variance of 1."""
    return float((1 - eps) ** -0.5)


def ternary(size: int, plus: int, minus: int, seed: int) -> Codes:
    """`size` codes: `plus` of them are 1 and `minus` −1, uniformly over all arrangements; `seed` has up to 64 bits.

    Selection sampling (Knuth, TAOCP 2, 3.4.2, Algorithm S) with the integers of SplitMix64: all steps are exact.
    """
    found: Codes = np.zeros(size, np.int8)
    _select(found, plus, minus, np.uint64(seed))
    return found


@numba.njit(cache=True)
def _select(found: Codes, plus: int, minus: int, state: np.uint64) -> None:
    for place in range(len(found)):
        state += _STEP
        mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        drawn = np.int64((mixed ^ (mixed >> np.uint64(31))) % np.uint64(len(found) - place))
        if drawn < plus:
            found[place] = 1
            plus -= 1
        elif drawn < plus + minus:
            found[place] = -1
            minus -= 1


def product(inside: Tensor, codes: Tensor) -> Tensor:
    """(n, d) sums over int8 inputs (n, inputs) of 0 and 1, and int8 codes (d, inputs): exact, as fp32."""
    return torch._int_mm(inside, codes.T).float()
