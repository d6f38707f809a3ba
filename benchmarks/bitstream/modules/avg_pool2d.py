"""Mean over a window: `torch.nn.AvgPool2d`. With a window of one pixel it subsamples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from benchmarks.bitstream.bounds import WINDOW, checked, no_children
from methods.interface import ModuleSpec

KIND = "AvgPool2d"
REQUIRED = {"kernel_size": WINDOW, "stride": WINDOW}


def spec(kernel_size: int | tuple[int, int], stride: int | tuple[int, int]) -> ModuleSpec:
    """Pool (N, C, H, W) over windows of `kernel_size` pixels, `stride` pixels apart, without padding."""
    return ModuleSpec(KIND, {"kernel_size": kernel_size, "stride": stride})


def build(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    no_children(children)
    return nn.AvgPool2d(**checked(arguments, REQUIRED))
