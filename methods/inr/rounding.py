"""AdaRound: whether each weight is rounded up or down is learned, layer by layer (Nagel et al., ICML 2020), as AIMET does it.

A layer sees the outputs of the quantised layers before it; its outputs, after the sine, shall be those of the float network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.networks.sine import Sine
from methods.inr.grids import Grid

Step: TypeAlias = Callable[[Tensor], Tensor]
WIDER, OFFSET = 1.2, 0.1  # h = clip(1.2 sigmoid(V) − 0.1, 0, 1)
WEIGHT = 1e-4  # of the term that drives h to 0 or 1
FREE = 0.2  # share of the iterations without that term
SHARP, SOFT = 20.0, 2.0  # its exponent falls from the first to the second
RATE = 1e-3  # Adam's


def rounded(
    layers: nn.Sequential,
    known: Sequence[tuple[Tensor, Tensor]],
    grids: Sequence[tuple[Grid, Grid]],
    inputs: Tensor,
    iterations: int,
) -> list[Tensor]:
    """The integers of each weight of a network of linear layers and sines, for encoded coordinates `inputs` (P, F).

    What is coded is the difference from the `known` weight and bias of each linear layer, on its `grids`. Biases are rounded to
    nearest.
    """
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    after: list[Step] = [Sine()] * (len(linear) - 1) + [nn.Identity()]
    found, float_inputs, quantised_inputs = [], inputs, inputs
    for layer, activation, (base, base_bias), (grid, bias_grid) in zip(linear, after, known, grids, strict=True):
        with torch.no_grad():
            target = activation(layer(float_inputs))
            bias = base_bias + bias_grid.nearest(layer.bias - base_bias)
        difference = layer.weight.detach() - base
        codes = _learned(difference, base, bias, grid, quantised_inputs, target, activation, iterations)
        with torch.no_grad():
            float_inputs = target
            quantised_inputs = activation(F.linear(quantised_inputs, base + codes * grid.step, bias))
        found.append(codes)
    return found


def _learned(
    weight: Tensor,
    base: Tensor,
    bias: Tensor,
    grid: Grid,
    inputs: Tensor,
    target: Tensor,
    activation: Step,
    iterations: int,
) -> Tensor:
    """The integers of a weight (out, in), to which `base` is added; those of rounding to nearest if they are no worse."""
    floor = (weight / grid.step).floor()
    share = (weight / grid.step - floor).clamp(0, 1)
    chosen = torch.logit((share + OFFSET) / WIDER).requires_grad_()
    optimiser = torch.optim.Adam([chosen], RATE)

    def error(codes: Tensor) -> Tensor:
        outputs = activation(F.linear(inputs, base + codes.clamp(grid.low, grid.high) * grid.step, bias))
        return F.mse_loss(outputs, target)

    for iteration in range(iterations):
        up = (WIDER * chosen.sigmoid() - OFFSET).clamp(0, 1)
        loss = error(floor + up)
        if iteration >= FREE * iterations:
            done = (iteration / iterations - FREE) / (1 - FREE)
            exponent = SOFT + (SHARP - SOFT) * (1 + math.cos(done * math.pi)) / 2
            loss = loss + WEIGHT * (1 - (2 * up - 1).abs().pow(exponent)).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        learned = (floor + (chosen >= 0)).clamp(grid.low, grid.high)
        nearest = grid.codes(weight)
        return learned if error(learned) < error(nearest) else nearest
