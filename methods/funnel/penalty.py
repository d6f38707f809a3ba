"""The funnel function, and its exact proximal step.

f(u) = u / (c + u) for u = |g| (Chu & Lee 2021): nearly L1 for wide funnels (large c), and a count of non-zeros for narrow ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 12  # of Newton's method


def funnel(gates: Tensor, width: Tensor) -> Tensor:
    """f of each gate: from 0 at zero to 1 far from it; the slope is c / (c + |g|)²."""
    sizes = gates.abs()
    return sizes / (width + sizes)


def critical(gates: Tensor, width: Tensor) -> Tensor:
    """The least τ at which the proximal step sets a gate v to zero: |v| c if |v| ≤ c / 2, else (|v| + c / 2)² / 2.

    0 minimises ½ (x − v)² + τ f(x) exactly if |v| ≤ min over x > 0 of x / 2 + τ / (x + c), which is solved for τ here.
    """
    sizes = gates.abs()
    return torch.where(sizes <= width / 2, sizes * width, (sizes + width / 2).square() / 2)


def prox(gates: Tensor, tau: Tensor, width: Tensor) -> Tensor:
    """argmin over x of ½ (x − v)² + τ f(x) for each gate v: an exact zero where τ is at least `critical`.

    Otherwise it has v's sign, and its size is the largest real root of (x − |v|) (c + x)² + τ c = 0: Newton's method from |v|
    falls to it, because the cubic is convex and rises from there on.
    """
    sizes = gates.abs()
    x = sizes
    for _ in range(STEPS):
        value = (x - sizes) * (width + x).square() + tau * width
        slope = (width + x) * (3 * x + width - 2 * sizes)
        x = (x - value / slope.clamp_min(torch.finfo(x.dtype).tiny)).clamp_min(0)
        x = torch.minimum(x, sizes)
    return torch.where(tau >= critical(gates, width), 0.0, gates.sign() * x)
