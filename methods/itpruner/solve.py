"""Widths under a budget: the solver as published, one that is scaled, and two that need no data.

The problem is max α·x with F(x) ≤ T and 0 ≤ x ≤ 1. F has products of variables with each other but hardly squares: it is not
convex, and a solver finds a stationary point.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from scipy.optimize import brentq, minimize

from benchmarks.errors import MethodError
from methods.itpruner.polynomial import Polynomial, Vector

Solve: TypeAlias = Literal["published", "scaled", "projection", "uniform"]
STEPS = 100  # of the projection: six are usual


def shares(
    cost: Polynomial, goal: float, alpha: Vector, how: Solve, floor: float, most: Vector | None = None
) -> Vector:
    """The shares x (L,) to keep, at most `most` (None: 1), whose cost is `goal` or less.

    "published": SLSQP from `most` with the importance α as it is; if α is below the solver's tolerance, it only projects.
    "scaled": α and F of about one, exact derivatives, shares of at least `floor`, the best of three starts. "projection":
    Newton steps along the gradient of F. "uniform": one share for all. Raises MethodError if `floor` leaves too much.
    """
    most = np.ones(len(alpha)) if most is None else most
    if cost(most) <= goal:
        return most
    if how == "uniform":
        return _uniform(cost, goal, most)
    if how == "projection":
        return projection(cost, goal, most)
    if how == "published":
        constraint = {"type": "ineq", "fun": lambda x: goal - cost(x)}
        found = _slsqp(alpha, [constraint], most, np.zeros_like(most), most)
        return found if cost(found) <= goal * (1 + 1e-6) else projection(cost, goal, found)
    least = np.minimum(floor, most)
    if cost(least) > goal:
        msg = f"the cost can't fall to {goal:,.0f}: at {floor:g} of each width, {cost(least):,.0f} remain; lower the floor"
        raise MethodError(msg)
    scaled = {
        "type": "ineq",
        "fun": lambda x: 1 - cost(x) / goal,
        "jac": lambda x: -cost.gradient(x) / goal,
    }
    weights = alpha / alpha.max()
    starts = (most, projection(cost, goal, most), _uniform(cost, goal, most))
    solved = [_slsqp(weights, [scaled], np.maximum(start, least), least, most) for start in starts]
    allowed = [x for x in solved if cost(x) <= goal * (1 + 1e-6)]
    return max(allowed, key=lambda x: float(weights @ x)) if allowed else projection(cost, goal, solved[0], least)


def _slsqp(alpha: Vector, constraints: list[object], start: Vector, least: Vector, most: Vector) -> Vector:
    bounds = list(zip(least, most, strict=True))
    solved = minimize(
        lambda x: -alpha @ x, start, jac=lambda x: -alpha, bounds=bounds, constraints=constraints, method="SLSQP"
    )
    found: Vector = np.clip(solved.x, least, most)
    return found


def projection(cost: Polynomial, goal: float, start: Vector, least: Vector | None = None) -> Vector:
    """Newton's steps from `start` to F(x) = goal along the gradient of F, within `least` (None: 0) and `start`."""
    x = start
    for _ in range(STEPS):
        excess = cost(x) - goal
        if abs(excess) <= 1e-9 * goal:
            break
        slope = cost.gradient(x)
        x = np.clip(x - excess / (slope @ slope) * slope, 0 if least is None else least, start)
    return x


def _uniform(cost: Polynomial, goal: float, most: Vector) -> Vector:
    if cost(0 * most) >= goal:
        msg = f"the cost can't fall to {goal:,.0f}: layers that are not narrowed cost {cost(0 * most):,.0f}"
        raise MethodError(msg)
    share = brentq(lambda r: cost(np.minimum(r, most)) - goal, 0.0, 1.0, xtol=1e-12)
    found: Vector = np.minimum(share, most)
    return found


def rounded(cost: Polynomial, x: Vector) -> Vector:
    """Widths (L,) as whole numbers of channels, at least 1: the nearest, without multiples of 8, as in the official code."""
    found: Vector = np.maximum(np.around(cost.full * x), 1)
    return found


def within(cost: Polynomial, x: Vector, goal: float) -> Vector:
    """The same, less one channel of the width that was rounded up the most, relative to its size, until F is at most `goal`."""
    widths = rounded(cost, x)
    while cost(widths / cost.full) > goal and (widths > 1).any():
        excess = np.where(widths > 1, (widths - cost.full * x) / cost.full, -np.inf)
        widths[excess.argmax()] -= 1
    return widths
