"""Quantisation-aware training: a few steps through the grids, of which the best state is kept."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.inr.grids import Grid, grid

RATE = 1e-6  # Adam's


def finetuned(
    network: nn.Module,
    known: Mapping[str, Tensor],
    differences: Mapping[str, Tensor],
    grids: Mapping[str, Grid],
    bits: int,
    inputs: Tensor,
    wanted: Tensor,
    steps: int,
) -> dict[str, Tensor]:
    """The differences from the `known` tensors, before rounding, with the lowest squared error of the quantised network.

    Those at the start count, too. `grids` are those of the weights, which stay; a bias gets a new one at every pass. `inputs`
    are coordinates (1, P, 2), `wanted` colours (1, P, 3) in [−1, 1].
    """
    parameters = {name: tensor.detach().clone().requires_grad_() for name, tensor in differences.items()}
    optimiser = torch.optim.Adam(parameters.values(), RATE)
    best, kept = torch.inf, dict[str, Tensor]()
    for step in range(steps + 1):
        with torch.set_grad_enabled(step < steps):
            state = {name: known[name] + tensor for name, tensor in quantised(parameters, grids, bits).items()}
            loss = F.mse_loss(torch.func.functional_call(network, state, (inputs,)), wanted)
        if loss.item() < best:
            best, kept = loss.item(), {name: tensor.detach().clone() for name, tensor in parameters.items()}
        if step < steps:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return kept


def quantised(parameters: Mapping[str, Tensor], grids: Mapping[str, Grid], bits: int) -> dict[str, Tensor]:
    """The tensors as a decoder has them: weights on their grids, each bias on the one that fits it."""
    return {name: (grids.get(name) or grid(tensor, bits)).nearest(tensor) for name, tensor in parameters.items()}
