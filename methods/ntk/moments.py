"""Gaussian moments of activations, in closed form for piecewise-constant ones and ReLU, by quadrature for others.

An activation σ acts on τ ξ with ξ of N(0, 1). The kernels of a wide random network depend on it only through E[σ′]², E[σ″]²,
E[(σ²)″] and τ′² = Var σ (Gu et al., NeurIPS 2022, Theorems 1 and 2), where the derivatives are those of distributions:
E[σ′] = E[ξ σ]/τ, E[σ″] = E[(ξ² − 1) σ]/τ², and (σ²)″ is that of the centred activation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import integrate, special

Floats = npt.NDArray[np.float64]
REACH = 12.0  # standard deviations that a quadrature covers


@dataclass(frozen=True)
class Moments:
    """z = E[σ], first = E[σ′], second = E[σ″], square = E[((σ − z)²)″], variance = E[(σ − z)²]; all at τ ξ."""

    z: float
    first: float
    second: float
    square: float
    variance: float

    @property
    def tau(self) -> float:
        """The τ of the next layer."""
        return math.sqrt(self.variance)

    @property
    def matched(self) -> Floats:
        """E[σ′]², E[σ″]², E[(σ²)″] and the variance: what a replacement has to share."""
        return np.array([self.first**2, self.second**2, self.square, self.variance])


@dataclass(frozen=True)
class Steps:
    """A piecewise-constant activation: `levels[k]` where x lies in k of the nested closed `intervals`, the widest first.

    σ_T has one interval and the levels (a, 0); σ_Q has two and the levels (b₁, 0, b₂).
    """

    intervals: tuple[tuple[float, float], ...]
    levels: tuple[float, ...]

    def __call__(self, x: float) -> float:
        return self.levels[sum(low <= x <= high for low, high in self.intervals)]

    def moments(self, tau: float) -> Moments:
        """Sums over the intervals: σ = levels[0] + Σ (levels[k] − levels[k − 1]) · 1[x in interval k], and σ² alike."""
        values = np.array(self.levels)
        own = np.array([_interval(low / tau, high / tau) for low, high in self.intervals])
        plain, squared = np.diff(values) @ own, np.diff(values**2) @ own
        z = values[0] + plain[0]
        return Moments(
            z=float(z),
            first=float(plain[1] / tau),
            second=float(plain[2] / tau**2),
            square=float((squared[2] - 2 * z * plain[2]) / tau**2),
            variance=float(values[0] ** 2 + squared[0] - z**2),
        )


def _interval(low: float, high: float) -> tuple[float, float, float]:
    """E[1], E[ξ 1] and E[(ξ² − 1) 1] of the indicator of low ≤ ξ ≤ high."""
    heights = np.exp(-np.square([low, high]) / 2) / math.sqrt(2 * math.pi)
    share = (special.erf(high / math.sqrt(2)) - special.erf(low / math.sqrt(2))) / 2
    return share, heights[0] - heights[1], low * heights[0] - high * heights[1]


def relu(tau: float) -> Moments:
    """Those of max(x, 0)."""
    root = math.sqrt(2 * math.pi)
    return Moments(tau / root, 0.5, 1 / (root * tau), 1 - 1 / math.pi, tau**2 * (0.5 - 0.5 / math.pi))


def quadrature(sigma: Callable[[float], float], tau: float, breaks: Sequence[float] = (0.0,)) -> Moments:
    """Those of any activation with at most polynomial growth; `breaks` are the places where it jumps or bends."""
    places = sorted({-REACH, REACH, *(b / tau for b in breaks if abs(b / tau) < REACH)})

    def mean(weighted: Callable[[float, float], float]) -> float:
        def density(xi: float) -> float:
            return weighted(xi, sigma(tau * xi)) * math.exp(-xi * xi / 2) / math.sqrt(2 * math.pi)

        pieces = itertools.pairwise(places)
        return math.fsum(
            integrate.quad(density, low, high, epsabs=1e-12, epsrel=1e-12, limit=200)[0] for low, high in pieces
        )

    z = mean(lambda xi, s: s)
    return Moments(
        z=z,
        first=mean(lambda xi, s: xi * s) / tau,
        second=mean(lambda xi, s: (xi * xi - 1) * s) / tau**2,
        square=mean(lambda xi, s: (xi * xi - 1) * (s - z) ** 2) / tau**2,
        variance=mean(lambda xi, s: (s - z) ** 2),
    )


@dataclass(frozen=True)
class Coefficients:
    """a₁ to a₄ of the conjugate kernel and b₁ to b₃ of the neural tangent kernel after a layer, and τ.

    K ≈ a₁ XᵀX + V A Vᵀ + (τ² − τ₀² a₁) I, with a₂ and a₃ in A (Theorem 1); alike with b (Theorem 2). The preprint also
    subtracts τ₀⁴ a₃ I: then the diagonals of both sides differ by a constant.
    """

    a: tuple[float, float, float, float]
    b: tuple[float, float, float]
    tau: float


def coefficients(layers: Sequence[Callable[[float], Moments]], tau: float) -> Iterator[Coefficients]:
    """Those after each layer, from its moments as a function of τ; `tau` is τ₀.

    For b, the recursion of the official code: equation (15) of the preprint lacks the factors E[σ′]².
    """
    a, b = (1.0, 0.0, 0.0, 1.0), (1.0, 0.0, 0.0)
    for moments in layers:
        m = moments(tau)
        first, second = m.first**2, m.second**2
        after = (
            a[0] * first,
            a[1] * first + a[3] ** 2 * second / 4,
            a[2] * first + a[0] ** 2 * second / 2,
            a[3] * m.square / 2,
        )
        b = (after[0] + b[0] * first, after[1] + b[1] * first, after[2] + b[2] * first + b[0] * a[0] * second)
        a, tau = after, m.tau
        yield Coefficients(a, b, tau)
