"""Selection of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bitstream.bounds import SIZE, checked, no_children
from methods.interface import ModuleSpec

KIND = "Gather"


class Gather(nn.Module):
    """Selects channels: input (N, C, H, W) to output (N, len(index), H, W); an index of C gives a channel of zeros.

    `index` is coded like any other tensor.
    """

    index: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("index", torch.zeros(channels, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (0, 0, 0, 0, 0, 1)).index_select(1, self.index)


def spec(channels: int) -> ModuleSpec:
    """Select `channels` channels, given by the int64 tensor `index` (channels,) with entries in [0, C]."""
    return ModuleSpec(KIND, {"channels": channels})


def build(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    no_children(children)
    return Gather(**checked(arguments, {"channels": SIZE}))
