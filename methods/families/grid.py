"""Weights on one symmetric grid per tensor: how they are stored, and how they are trained for that."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.bitstream.codecs import uniform
from benchmarks.training import Callback
from methods.families.storage import Arrays
from methods.interface import Part


def step(values: npt.NDArray[Any], bits: int) -> np.float32:
    """The step of a symmetric grid of 2^bits − 1 levels that reaches the largest magnitude."""
    levels = 2 ** (bits - 1) - 1
    return np.float32(max(float(np.abs(values).max()), float(np.finfo(np.float32).tiny)) / levels)


def part(found: Arrays, bits: int) -> Part:
    """A part with each tensor rounded to its own grid (`step`) and entropy coded."""
    steps = {name: step(values, bits) for name, values in found.items()}
    codes = [uniform.quantise(values, steps[name])[0] for name, values in found.items()]
    return uniform.part(list(found), codes, list(steps.values()), "weights")


class OnGrid(Callback):
    """Trains weights that are stored on the grid: passes use the rounded weights, steps change the weights before rounding.

    The gradient of rounding is taken for 1 (straight-through; Hubara et al., Quantized Neural Networks, JMLR 2018). Afterwards,
    the network has the rounded weights.
    """

    def __init__(self, network: nn.Module, bits: int) -> None:
        self._weights = {name: parameter for name, parameter in network.named_parameters() if parameter.ndim > 1}
        self._bits = bits
        self._exact: dict[str, Tensor] = {}

    @torch.no_grad()
    def before_epoch(self, epoch: int, optimiser: torch.optim.Optimizer) -> None:
        if not self._exact:
            self.after_step()

    def before_step(self, optimiser: torch.optim.Optimizer) -> None:
        for name, weight in self._weights.items():
            weight.copy_(self._exact[name])

    def after_step(self) -> None:
        levels = 2 ** (self._bits - 1) - 1
        for name, weight in self._weights.items():
            self._exact[name] = weight.detach().clone()
            step = weight.abs().max().clamp_min(torch.finfo(weight.dtype).tiny) / levels
            weight.copy_((weight / step).round() * step)

    def state_dict(self) -> dict[str, Any]:
        return {"exact": self._exact}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._exact = {name: values.to(self._weights[name].device) for name, values in state["exact"].items()}
