"""The grid of a tensor: AIMET's "TF-enhanced" choice of a step, symmetric, one for each tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CANDIDATES = torch.arange(1, 102, dtype=torch.float64) / 100  # multiples of the step that reaches the largest magnitude
BINS = 512
REACH = 3  # the histogram's range, in multiples of the data's
SATURATION = 3.0  # weighs the error of clipped values
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Grid:
    """Values step · k for whole numbers k from `low` to `high`; `step` is an fp32 number."""

    step: float
    low: int
    high: int

    def codes(self, values: Tensor) -> Tensor:
        """The nearest k of each value."""
        return (values / self.step).round().clamp(self.low, self.high)

    def nearest(self, values: Tensor) -> Tensor:
        """The nearest value of the grid, with the gradient of the value inside the grid's range and 0 outside."""
        inside = (values >= self.step * self.low) & (values <= self.step * self.high)
        passed = torch.where(inside, values, values.detach())
        return passed + (self.codes(values) * self.step - values).detach()


@torch.no_grad()
def grid(values: Tensor, bits: int) -> Grid:
    """The grid of 2^bits values with the least expected error for a histogram of the values.

    From −2^(bits−1), or from 0 if no value is negative. The error is the squared error of rounding plus 3 times that of
    clipping. Values that are all zero have the smallest step.
    """
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if bool((values < 0).any()) else (0, 2**bits - 1)
    flat = values.detach().double().flatten()
    largest = float(flat.abs().max())
    if largest < TINY * 2**bits:
        return Grid(TINY, low, high)
    counts, centres = _histogram(flat)
    # 2 max|w| / (2^b − 1); an unsigned grid has all its values on one side.
    widest = largest * (2 if low else 1) / (2**bits - 1)
    steps = (widest * CANDIDATES).float().double()[:, None]
    clipped = centres.clamp(steps * low, steps * high)
    rounded = (clipped / steps).round() * steps
    costs = ((clipped - rounded).square() + SATURATION * (centres - clipped).square()) @ counts
    return Grid(float(steps[costs.argmin()]), low, high)


def _histogram(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Counts and centres of the bins, over REACH times the range of the values, around its middle."""
    low, high = float(flat.min()), float(flat.max())
    middle, half = (low + high) / 2, REACH / 2 * max(high - low, max(abs(low), abs(high)) / BINS)
    counts = torch.histc(flat, BINS, middle - half, middle + half)
    edges = torch.linspace(middle - half, middle + half, BINS + 1, dtype=torch.float64)
    return counts, (edges[1:] + edges[:-1]) / 2
