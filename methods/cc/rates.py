"""How much each layer is compressed: global compression rate optimisation (GCRO)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.errors import MethodError
from methods.cc.units import Convolution, State, components

MOST = 0.95  # of a layer
TINY = 1e-10  # is added to the loss before its logarithm


class Fit(NamedTuple):
    """I ≈ p₁ · exp(p₂ · rate), with I relative to its largest value."""

    p1: float
    p2: float


def points(conv: Convolution) -> tuple[list[float], list[float]]:
    """The rates and losses while all units are removed, those whose own removal costs least first.

    A rate is a share of the layer's multiply-accumulates; it is negative where a pair of convolutions costs more than one.
    """
    a, b = components(conv.weight)
    own = (conv.squares * conv.weight.square()).reshape(conv.outputs, conv.channels, -1).sum((0, 2))
    order = torch.cat([own, ((conv.squares.T @ a.square()) * b.square()).sum(0)]).argsort(stable=True).tolist()
    state, gone = State(conv), torch.zeros(conv.rank, dtype=torch.bool)
    rates, losses = [], []
    for unit in order:
        if unit < conv.channels:
            state.remove_channel(unit)
        else:
            place = unit - conv.channels
            state.remove_component(place - int(gone[:place].sum()))
            gone[place] = True
        rates.append(conv.saved(int(state.kept.sum()), state.left)[0] / conv.macs(conv.channels, None))
        losses.append(state.loss())
    return rates, losses


def fitted(rates: list[float], losses: list[float], path: str) -> Fit:
    """The exponential through points of positive rate: least squares of log I, each weighted by √I.

    Raises MethodError if there are fewer than two such points or the loss is zero: the layer has no gradient.
    """
    known = [(rate, loss) for rate, loss in zip(rates, losses, strict=True) if rate > 0]
    most = max((loss for _, loss in known), default=0.0)
    if len(known) < 2 or not 0 < most < math.inf:
        msg = (
            f"the loss of compressing {path} can't be fitted: its gradients are zero or not finite, or it has one unit"
        )
        raise MethodError(msg)
    x, y = (np.array(values) for values in zip(*known, strict=True))
    y = y / most
    slope, intercept = np.polyfit(x, np.log(y + TINY), 1, w=y**0.25)  # polyfit squares its weights
    return Fit(math.exp(intercept), max(float(slope), 1e-6))


def shares(macs: Mapping[str, int], fits: Mapping[str, Fit], goal: float) -> dict[str, float]:
    """The rate of each layer, with Σ rate · macs = goal: all have the same marginal loss x, within 0 and MOST.

    The rate at x is log(x / (p₁ p₂)) / p₂; bisection, because the sum rises with x. Raises MethodError if MOST of all layers
    is less than the goal.
    """
    if goal > MOST * sum(macs.values()):
        msg = f"{goal:,.0f} multiply-accumulates are to be removed from layers that have {sum(macs.values()):,}: ask for less"
        raise MethodError(msg)
    if goal <= 0:
        return dict.fromkeys(macs, 0.0)

    def at(log_x: float) -> dict[str, float]:
        return {path: min(max((log_x - math.log(fit.p1 * fit.p2)) / fit.p2, 0.0), MOST) for path, fit in fits.items()}

    edges = [math.log(fit.p1 * fit.p2) + end * fit.p2 for fit in fits.values() for end in (0.0, MOST)]
    low, high = min(edges), max(edges)
    for _ in range(200):
        middle = (low + high) / 2
        if sum(rate * macs[path] for path, rate in at(middle).items()) < goal:
            low = middle
        else:
            high = middle
    return at(high)
