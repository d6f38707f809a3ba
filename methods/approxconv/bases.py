"""Series that approximate slices of kernels, and the least-squares fit (Costain & Prisacariu 2022, official code)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Series: TypeAlias = Literal["cosine", "chebyshev", "dct"]
Basis: TypeAlias = Literal["cosine", "chebyshev", "dct", "pca"]
Array: TypeAlias = npt.NDArray[Any]
LARGEST = 16  # side of a kernel
EDGE = 0.2  # distance of the samples of a cosine from the ends of (0, π), in units of π


def functions(kind: Series, order: int, size: int) -> npt.NDArray[np.float64]:
    """The values (order, size) of the first functions of a series at the `size` samples of one side.

    cos(i u) at equal distances from 0.2 π to 0.8 π, Chebyshev polynomials at equal distances from −1 to 1, or the rows of the
    orthonormal DCT-II.
    """
    degrees = np.arange(order)[:, None]
    if kind == "cosine":
        return np.cos(degrees * np.linspace(EDGE * math.pi, (1 - EDGE) * math.pi, size))
    if kind == "dct":
        scale = np.where(degrees == 0, 1.0, math.sqrt(2)) / math.sqrt(size)
        return np.asarray(scale * np.cos(math.pi * degrees * (2 * np.arange(size) + 1) / (2 * size)))
    u = np.linspace(-1, 1, size)
    found = [np.ones(size), u]
    while len(found) < order:
        found.append(2 * u * found[-1] - found[-2])
    return np.array(found[:order])


def filters(kind: Series, order: int, size: int) -> npt.NDArray[np.float64]:
    """The products (order², size²) of a function of the row and one of the column, the latter's index first to change."""
    values = functions(kind, order, size)
    return np.asarray(np.kron(values, values), np.float64)


def principal(slices: Array, count: int) -> npt.NDArray[np.float32]:
    """The `count` orthonormal filters (count, size²) whose span is nearest to slices (S, size²): no basis has a smaller error.

    The largest entry of each is positive.
    """
    exact = slices.astype(np.float64)
    vectors = np.linalg.eigh(exact.T @ exact)[1][:, ::-1][:, :count].T
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], 1)
    return np.asarray(vectors * np.sign(largest), np.float32)


@dataclass(frozen=True)
class Approximation:
    """A kernel (O, I, size, size) as coefficients (O, I, order, order) of the filters of a series, or of its own ones.

    `own` are the filters (order², size²) of the basis "pca", which are stored.
    """

    coefficients: Array
    kind: Basis
    size: int
    own: npt.NDArray[np.float32] | None = None

    @property
    def order(self) -> int:
        return int(self.coefficients.shape[-1])

    @property
    def filters(self) -> Array:
        if self.kind == "pca":
            assert self.own is not None
            return self.own
        return filters(self.kind, self.order, self.size)

    def kernel(self) -> npt.NDArray[np.float32]:
        """The kernel, computed in fp64 term by term: the same on every machine. A series is summed along each side."""
        outputs, inputs = self.coefficients.shape[:2]
        exact = self.coefficients.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # the container refuses what a damaged file gives
            if self.kind == "pca":
                found = _summed(exact.reshape(outputs * inputs, -1), self.filters.astype(np.float64))
            else:
                values = functions(self.kind, self.order, self.size)
                rows = _summed(exact.reshape(-1, self.order), values)
                rows = rows.reshape(-1, self.order, self.size).swapaxes(1, 2).reshape(-1, self.order)
                found = _summed(rows, values).reshape(-1, self.size, self.size).swapaxes(1, 2)
            return found.reshape(outputs, inputs, self.size, self.size).astype(np.float32)


def _summed(coefficients: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The matrix product (n, m) of (n, k) and (k, m), in the order of k."""
    found = np.zeros((len(coefficients), values.shape[1]))
    for column, own in zip(coefficients.T, values, strict=True):
        found += column[:, None] * own
    return found


def approximated(kernel: Array, kind: Basis, order: int) -> Approximation:
    """The coefficients of the smallest squared error: A = W F⁺, with the pseudo-inverse of the filters F.

    `kernel` is (O, I, size, size). Above `size`, an order has no use: the filters span everything already.
    """
    outputs, inputs, size, _ = kernel.shape
    slices = kernel.reshape(outputs * inputs, -1)
    own = principal(slices, order**2) if kind == "pca" else None
    basis = filters(kind, order, size) if kind != "pca" else own
    assert basis is not None
    coefficients = slices.astype(np.float64) @ np.linalg.pinv(basis.astype(np.float64))
    return Approximation(coefficients.reshape(outputs, inputs, order, order), kind, size, own)
