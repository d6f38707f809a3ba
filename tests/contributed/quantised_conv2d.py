"""A convolution whose input is rounded to a grid with a learned step (Esser et al., Learned step size, ICLR 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bitstream.bounds import PADDING, SIZE, WINDOW, checked, no_children, whole
from methods.interface import ModuleSpec

KIND = "contributed.quantised_conv2d"
REQUIRED = {
    "in_channels": SIZE,
    "out_channels": SIZE,
    "kernel_size": WINDOW,
    "padding": PADDING,
    "bits": whole(1, 16),
}


class QuantisedConv2d(nn.Conv2d):
    """A convolution of ⌊x / step⌉ · step, clipped to 0 … 2^bits − 1 steps; `step` is a scalar."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, padding: Any, bits: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, bias=False)
        self.bits = bits
        self.step = nn.Parameter(torch.empty(()))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x / self.step).round().clamp(0, 2**self.bits - 1) * self.step)


def spec(in_channels: int, out_channels: int, kernel_size: int, padding: int, bits: int) -> ModuleSpec:
    """A convolution without bias; its tensors are `weight` and `step` ()."""
    arguments = {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "kernel_size": kernel_size,
        "padding": padding,
        "bits": bits,
    }
    return ModuleSpec(KIND, arguments)


def build(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    no_children(children)
    return QuantisedConv2d(**checked(arguments, REQUIRED))
