"""Rounding of a layer's weights to a grid, column by column, with the error spread over later columns (OBQ, GPTQ).

The error of a column changes the outputs; later columns are shifted so that the expected change is least. With U the upper
Cholesky factor of the inverse covariance, the shift is (w − q) / U_jj · U_j (Frantar et al., GPTQ, ICLR 2023, eq. 2-5).
Afterwards, integers may change one by one where that lowers the cost (coordinate descent; Nair and Suggala, CDQuant, 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.families.curvature import Inputs

BLOCK = 64  # columns whose errors reach the columns after the block together
LEAST = 1e-4  # share of the layer's mean variance by which a group is damped as if it had that much
MOST_BITS = 2.0  # a unit of magnitude is charged at most so much


@dataclass(frozen=True)
class Spread:
    """`covariance` (groups, size, size) is damped; `factors`, of the same shape, are the upper Cholesky factors of its inverse.

    `variances` (groups, size): of an input whose later ones are known, 1 / U_jj². `typical` (groups, 1) is their geometric
    mean.
    """

    covariance: Tensor
    factors: Tensor
    variances: Tensor

    @property
    def typical(self) -> Tensor:
        return self.variances.log().mean(dim=1, keepdim=True).exp()

    @property
    def importance(self) -> Tensor:
        """(groups, 1, size): what an error in a column costs, relative to the typical column."""
        return (self.variances / self.typical)[:, None]


def spread(inputs: Inputs, damping: float, feedback: bool = True, centred: bool = True) -> Spread:
    """`damping` is a share of the mean variance that is added to each variance; without `feedback`, inputs are independent.

    Not `centred`: second moments instead of covariances, for a layer whose change of the mean nothing corrects. A group
    whose inputs hardly vary is damped by a share of LEAST of the layer's mean variance.
    """
    covariance = inputs.covariance.clone()
    if not centred:
        covariance += inputs.mean[:, :, None] * inputs.mean[:, None, :]
    diagonal = covariance.diagonal(dim1=-2, dim2=-1)
    variance = diagonal.mean(dim=1, keepdim=True)
    least = max(LEAST * float(variance.mean()), torch.finfo(torch.float32).tiny)
    diagonal += damping * variance.clamp_min(least)
    if not feedback:
        covariance = torch.diag_embed(diagonal)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
    factors = torch.linalg.cholesky(inverse, upper=True)
    return Spread(covariance, factors, factors.diagonal(dim1=-2, dim2=-1).square().reciprocal())


def rounded(weights: Tensor, inputs: Spread, rate: Tensor | None = None, least: float = 0.0) -> Tensor:
    """Integers (groups, rows, size) for weights in units of their steps.

    `rate` (groups, rows, size) is the cost of a unit of magnitude, in squared steps: a weight becomes the one of floor,
    ceiling and zero with the least (w − q)² + rate · |q|. It becomes zero if its magnitude is below `least` when its
    turn has come, after the errors of earlier columns have reached it.
    """
    left, codes = weights.clone(), torch.empty_like(weights)
    size = weights.shape[2]
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        errors = torch.empty_like(left[:, :, start:stop])
        for j in range(start, stop):
            column = left[:, :, j]
            codes[:, :, j] = _nearest(column, None if rate is None else rate[:, :, j])
            if least:
                codes[:, :, j] *= column.abs() >= least
            errors[:, :, j - start] = (column - codes[:, :, j]) / inputs.factors[:, None, j, j]
            left[:, :, j:stop] -= errors[:, :, j - start, None] * inputs.factors[:, None, j, j:stop]
        left[:, :, stop:] -= errors @ inputs.factors[:, start:stop, stop:]
    return codes


def refined(weights: Tensor, codes: Tensor, inputs: Spread, rate: Tensor | None = None) -> Tensor:
    """The integers after one pass over the columns: each becomes the best one while all others stay as they are.

    The cost is that of `rounded` for the whole row: the expected squared change of the outputs, and the rate.
    """
    codes, covariance = codes.clone(), inputs.covariance
    slopes = (weights - codes) @ covariance
    for start in range(0, weights.shape[2], BLOCK):
        stop = min(start + BLOCK, weights.shape[2])
        own, changes = slopes[:, :, start:stop].clone(), torch.empty_like(slopes[:, :, start:stop])
        for j in range(start, stop):
            variance = covariance[:, None, j, j]
            cost = None if rate is None else rate[:, :, j] * inputs.variances[:, None, j] / variance
            best = _nearest(codes[:, :, j] + own[:, :, j - start] / variance, cost)
            changes[:, :, j - start] = codes[:, :, j] - best
            own += changes[:, :, j - start, None] * covariance[:, None, j, start:stop]
            codes[:, :, j] = best
        slopes += changes @ covariance[:, start:stop]
    return codes


def wanted(weights: Tensor, codes: Tensor, inputs: Spread) -> Tensor:
    """The number (groups, rows, size) that would be best at each place, were it no integer, while all others stay."""
    variances = inputs.covariance.diagonal(dim1=-2, dim2=-1)
    return codes + (weights - codes) @ inputs.covariance / variances[:, None]


def _nearest(values: Tensor, rate: Tensor | None) -> Tensor:
    if rate is None:
        return values.round()
    magnitudes = values.abs()
    low = magnitudes.floor()
    high = low + 1
    best = torch.where((high - magnitudes).square() + rate * high < (magnitudes - low).square() + rate * low, high, low)
    zero = magnitudes.square() <= (magnitudes - best).square() + rate * best
    return torch.where(zero, 0.0, best) * values.sign()


def bits_per_unit(codes: Tensor, kernel: int) -> Tensor:
    """What a unit of magnitude costs at each place of `codes` (groups, rows, size), in bits: log2(1 + 1/m), at most MOST_BITS.

    m is the mean magnitude that a geometric distribution would have there: that of the output channel times that of the
    input channel, whose weights are `kernel` neighbouring columns, divided by that of the group.
    """
    magnitudes = codes.abs()
    groups, rows, size = magnitudes.shape
    by_output = magnitudes.mean(dim=2, keepdim=True)
    by_input = magnitudes.reshape(groups, rows, -1, kernel).mean(dim=(1, 3)).repeat_interleave(kernel, dim=1)[:, None]
    expected = by_output * by_input / magnitudes.mean(dim=(1, 2), keepdim=True).clamp_min(1 / (rows * size))
    return (1 + 1 / expected.clamp_min(1e-6)).log2().clamp_max(MOST_BITS)
