"""A fully connected layer: `torch.nn.Linear`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from benchmarks.bitstream.bounds import SIZE, checked, flag, no_children
from methods.interface import ModuleSpec

KIND = "Linear"


def spec(in_features: int, out_features: int, bias: bool = True) -> ModuleSpec:
    """Map (…, in_features) to (…, out_features)."""
    return ModuleSpec(KIND, {"in_features": in_features, "out_features": out_features, "bias": bias})


def build(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    no_children(children)
    return nn.Linear(**checked(arguments, {"in_features": SIZE, "out_features": SIZE}, bias=flag))
