"""Piecewise-constant activations with the moments of others, by least squares (Algorithm 1 of Gu et al., NeurIPS 2022).

The official code minimises the same sum of squares by SLSQP from 1,000 random starts. Here a few sorted starts are enough, and
thresholds stay in order because the unknowns are the logarithms of their distances.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy.optimize import least_squares

from methods.ntk.moments import Floats, Moments, Steps, relu

Last: TypeAlias = Literal["four", "soft", "equal"]
SOFT = 0.01  # the weight of the variance beside the three moments that decide about the kernels


@dataclass(frozen=True)
class Matched:
    """An activation, its moments at the compressed network's τ, and what they exceed the targets by."""

    steps: Steps
    moments: Moments
    residuals: tuple[float, ...]


def _best(objective: Callable[[Floats], Floats], starts: Sequence[Sequence[float]]) -> Floats:
    """The unknowns with the smallest sum of squares; of equal ones, those of the first start."""
    found = [least_squares(objective, start, xtol=1e-15, ftol=1e-15, gtol=1e-15) for start in starts]
    lowest = min(one.cost for one in found)
    best: Floats = next(one.x for one in found if one.cost <= lowest + 1e-12)
    return best


def _mirrored(steps: Steps) -> Steps:
    """Of an activation, its reflection and their negatives, which share all matched moments: to the right, first level > 0."""
    sign, intervals = math.copysign(1, steps.levels[0]), steps.intervals
    if sum(intervals[0]) < 0:
        intervals = tuple((-high, -low) for low, high in intervals)
    return Steps(intervals, tuple(level * sign + 0.0 for level in steps.levels))


def sigma_t(target: Moments, tau: float) -> Matched:
    """σ_T(x) = a (1[x < s₁] + 1[x > s₂]) whose E[σ′]², E[σ″]² and E[(σ²)″] at τ are the target's: an exact solution.

    It is found for τ = 1; s and a are proportional to τ, and E[σ″] to 1/τ.
    """
    wanted = target.matched[:3] * (1, tau**2, 1)

    def steps(x: Floats) -> Steps:
        return Steps(((x[0], x[0] + math.exp(x[1])),), (x[2], 0.0))

    x = _best(lambda x: steps(x).moments(1.0).matched[:3] - wanted, [(-1.0, 0.5, 2.0), (-2.0, 0.0, 2.0)])
    return _scaled(steps(x), tau, target, 3)


def sigma_q(target: Moments, tau: float, last: Last) -> Matched:
    """σ_Q(x) = b₁ (1[x < r₁] + 1[x > r₄]) + b₂ 1[r₂ ≤ x ≤ r₃] with r₂ − r₁ = r₄ − r₃, matched at τ as far as it can be.

    "four": the variance counts as much as the three other moments. "soft": it hardly counts, since it only shifts all
    eigenvalues. "equal" is the official code's b₁ = b₂ = √(E[(σ²)″]² / E[σ″]² + 4 E[σ²]).
    """
    wanted = target.matched
    level = math.sqrt(wanted[2] ** 2 / wanted[1] + 4 * wanted[3]) if wanted[1] > 0 else 2 * math.sqrt(wanted[3])
    weights = np.array([1, 1, 1, SOFT if last == "soft" else 1])

    def steps(x: Floats) -> Steps:
        gap, inner = math.exp(x[1]), math.exp(x[2])
        levels = (level, 0.0, level) if last == "equal" else (x[3], 0.0, x[4])
        return Steps(((x[0], x[0] + 2 * gap + inner), (x[0] + gap, x[0] + gap + inner)), levels)

    def objective(x: Floats) -> Floats:
        difference: Floats = weights * (steps(x).moments(tau).matched - wanted)
        return difference

    ends = ((),) if last == "equal" else ((level, level), (level, -level))
    starts = [
        (first * tau, math.log(gap * tau), math.log(tau), *end)
        for first in (-2, -1)
        for gap in (0.5, 3)
        for end in ends
    ]
    return _scaled(steps(_best(objective, starts)), 1.0, target, 4, tau)


def _scaled(steps: Steps, factor: float, target: Moments, count: int, tau: float | None = None) -> Matched:
    """The activation with thresholds and levels times `factor`, mirrored, and its residuals at τ (`factor` by default)."""
    intervals = tuple((float(low) * factor, float(high) * factor) for low, high in steps.intervals)
    made = _mirrored(Steps(intervals, tuple(float(level) * factor for level in steps.levels)))
    moments = made.moments(tau or factor)
    return Matched(made, moments, tuple(map(float, (moments.matched - target.matched)[:count])))


@functools.cache
def replacements(depth: int, last: Last) -> tuple[Matched, ...]:
    """σ_T for all layers of a ReLU network but the last, σ_Q for that one. τ is 1 for the inputs of both networks.

    Each replacement is matched at the τ of the compressed network, which is not the original's.
    """
    tau = own = 1.0
    found: list[Matched] = []
    for layer in range(depth):
        target = relu(tau)
        made = sigma_t(target, own) if layer + 1 < depth else sigma_q(target, own, last)
        found.append(made)
        tau, own = target.tau, made.moments.tau
    return tuple(found)
