"""A fully connected layer under a sine (Sitzmann et al., Implicit neural representations, NeurIPS 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bitstream.bounds import SIZE, checked, no_children, real
from methods.interface import ModuleSpec

KIND = "contributed.sine"


class Sine(nn.Module):
    """sin(ω (W x + b)): (…, in_features) to (…, out_features)."""

    def __init__(self, in_features: int, out_features: int, omega: float) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * self.linear(x))


def spec(in_features: int, out_features: int, omega: float) -> ModuleSpec:
    """A layer of frequency `omega`; its tensors are `linear.weight` and `linear.bias`."""
    return ModuleSpec(KIND, {"in_features": in_features, "out_features": out_features, "omega": omega})


def build(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    no_children(children)
    return Sine(**checked(arguments, {"in_features": SIZE, "out_features": SIZE, "omega": real(0, 1000)}))
