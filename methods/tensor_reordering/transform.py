"""A weight as a few DCT coefficients of its reordered columns, and back (Ulicny et al. 2021, Section 2 and official code)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy import fft
from torch import Tensor, nn

from benchmarks.bitstream.bytesio import Ints
from methods.families.grid import OnGrid

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Reordered:
    """Coefficients (g, t) of the orthonormal DCT-II of each row of the reordered matrix (g, N), its lowest t frequencies.

    `inverse` (N,) is the position of each column in the new order; None if columns have the given order. `shape` is that of
    the weight, whose values fill the matrix row by row.
    """

    coefficients: Array
    inverse: Ints | None
    shape: tuple[int, ...]

    @property
    def columns(self) -> int:
        return math.prod(self.shape) // len(self.coefficients)

    def lowest(self, kept: int) -> Reordered:
        """The same with `kept` frequencies."""
        return replace(self, coefficients=self.coefficients[:, :kept])

    def weight(self) -> npt.NDArray[np.float32]:
        """The weight; computed in fp64, one row at a time."""
        rows = np.empty((len(self.coefficients), self.columns), np.float32)
        for row, coefficients in zip(rows, self.coefficients, strict=True):
            padded = np.zeros(self.columns)
            padded[: len(coefficients)] = coefficients
            values = fft.idct(padded, norm="ortho")
            row[:] = values if self.inverse is None else values[self.inverse]
        return rows.reshape(self.shape)


def analysed(weight: Array, groups: int, order: Ints | None) -> Reordered:
    """All coefficients of a weight whose values divide into `groups` rows; `order` is that of the columns (None: as given)."""
    columns = weight.reshape(groups, -1)
    inverse = None
    if order is not None:
        columns = columns[:, order]
        inverse = np.empty_like(order)
        inverse[order] = np.arange(len(order))
    return Reordered(fft.dct(columns.astype(np.float64), axis=1, norm="ortho"), inverse, weight.shape)


def kept_frequencies(columns: int, rate: float) -> int:
    """t = ⌊N/ρ⌋, at least 1."""
    return max(1, math.floor(columns / rate))


class Source(nn.Module):
    """The weight as a function of its coefficients, which are trained; the order is fixed."""

    inverse: Tensor | None

    def __init__(self, found: Reordered) -> None:
        super().__init__()
        self.shape, self.columns = found.shape, found.columns
        self.coefficients = nn.Parameter(torch.from_numpy(found.coefficients.astype(np.float32)))
        self.register_buffer("inverse", None if found.inverse is None else torch.from_numpy(found.inverse))

    def forward(self) -> Tensor:
        missing = self.columns - self.coefficients.shape[1]
        rows = inverse_dct(nn.functional.pad(self.coefficients, (0, missing)))
        return (rows if self.inverse is None else rows.index_select(1, self.inverse)).reshape(self.shape)


class OnSteps(OnGrid):
    """Trains the coefficients of `sources` (`Source` modules) that are stored in `steps`, one fixed step for each."""

    def __init__(self, sources: nn.Module, steps: Sequence[np.float32]) -> None:
        super().__init__(sources, 0)
        self._steps = [float(step) for step in steps]

    def after_step(self) -> None:
        for (name, weight), step in zip(self._weights.items(), self._steps, strict=True):
            self._exact[name] = weight.detach().clone()
            weight.copy_((weight / step).round() * step)


def inverse_dct(coefficients: Tensor) -> Tensor:
    """The inverse of the orthonormal DCT-II along the last axis, by one real FFT of the same length (Makhoul 1980)."""
    count = coefficients.shape[-1]
    frequency = torch.arange(count // 2 + 1, device=coefficients.device)
    scale = torch.full((count,), math.sqrt(2 * count), dtype=coefficients.dtype, device=coefficients.device)
    scale[0] *= math.sqrt(2)
    scaled = coefficients * scale
    mirrored = nn.functional.pad(scaled, (0, 1))[..., count - frequency]  # the frequency N is zero
    angle = (math.pi / (2 * count)) * frequency.to(coefficients.dtype)
    spectrum = torch.complex(scaled[..., : count // 2 + 1], -mirrored) * torch.polar(torch.ones_like(angle), angle) / 2
    values = torch.fft.irfft(spectrum, count)
    even, odd = values[..., : (count + 1) // 2], values[..., (count + 1) // 2 :].flip(-1)
    joined = torch.stack([even, nn.functional.pad(odd, (0, even.shape[-1] - odd.shape[-1]))], -1)
    return joined.flatten(-2)[..., :count]
