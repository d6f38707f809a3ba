"""An activation that takes a few values: what a quantised activation function is for the decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bitstream.bounds import checked, no_children, whole
from methods.interface import ModuleSpec

KIND = "contributed.piecewise_constant"


class PiecewiseConstant(nn.Module):
    """`levels[i]` between the `thresholds` i − 1 and i; thresholds (pieces − 1,) rise, levels are (pieces,)."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.thresholds = nn.Parameter(torch.empty(pieces - 1))
        self.levels = nn.Parameter(torch.empty(pieces))

    def forward(self, x: Tensor) -> Tensor:
        return self.levels[torch.bucketize(x, self.thresholds)]


def spec(pieces: int) -> ModuleSpec:
    """A function of `pieces` steps; its tensors are `thresholds` and `levels`."""
    return ModuleSpec(KIND, {"pieces": pieces})


def build(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    no_children(children)
    return PiecewiseConstant(**checked(arguments, {"pieces": whole(2, 2**16)}))
