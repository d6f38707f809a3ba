"""The paper's memory of networks and its coefficients of kernels (Tables 1 and 2), computed without training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from methods.ntk.moments import Moments, coefficients, quadrature

if TYPE_CHECKING:
    from benchmarks.papers.reported import Reported

__fingerprint__ = False  # no result depends on it
INPUTS, DEPTH = 784, 3
CLASSES = {"mnist_features": 10, "mnist_0_4": 5, "mnist_6_8": 2}
TAU_0 = {"mnist_6_8": 1.0021, "gmm": 1.0693}  # the tables' own, in the row of the identity
SLOPE = -0.1  # the tables print 0.1, but all of their numbers are those of −0.1
ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "relu": lambda x: max(x, 0.0),
    "leaky relu": lambda x: x if x >= 0 else SLOPE * x,
    "step": lambda x: float(x >= 0),
    "sign": lambda x: math.copysign(1.0, x),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "sin": math.sin,
    "identity": lambda x: x,
    "erf": math.erf,
    "cos": math.cos,
    "abs": abs,
}


def count(row: Reported) -> float | None:
    """Bits of a network ("memory_bits"), or "a1", "a2", "a3" or "tau" after three layers; None for anything else."""
    if row.metric == "memory_bits":
        widths = [int(width) for width in row.network.split("_")[:DEPTH]]
        return memory(INPUTS, widths, CLASSES[row.task], row.point.get("eps"))
    if row.metric in ("a1", "a2", "a3", "tau") and row.task in TAU_0:
        return kernel(row.point["activation"], TAU_0[row.task])[row.metric]
    return None


def memory(inputs: int, widths: Sequence[int], classes: int, eps: float | None = None) -> float:
    """Bits in the paper's count: fp32 with a constant for each neuron or, with `eps`, two bits for each weight that is not 0.

    The places of zeros are not counted.
    """
    weights = sum(a * b for a, b in itertools.pairwise([inputs, *widths, classes]))
    return 32 * (weights + sum(widths)) if eps is None else 2 * (1 - eps) * weights + sum(widths)


def kernel(activation: str, tau: float) -> dict[str, float]:
    """The coefficients of the conjugate kernel after three layers with one activation; `tau` is τ₀."""

    def moments(tau: float) -> Moments:
        return quadrature(ACTIVATIONS[activation], tau)

    *_, last = coefficients([moments] * DEPTH, tau)
    return {"a1": last.a[0], "a2": last.a[1], "a3": last.a[2], "tau": last.tau}
