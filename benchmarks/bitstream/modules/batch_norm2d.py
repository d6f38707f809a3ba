"""Batch normalisation with scale and shift: `torch.nn.BatchNorm2d`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from benchmarks.bitstream.bounds import SIZE, checked, no_children, real
from methods.interface import ModuleSpec

KIND = "BatchNorm2d"


def spec(num_features: int, eps: float | None = None) -> ModuleSpec:
    """Normalise (N, num_features, H, W); `eps` is added to the variance; None means PyTorch's default."""
    return ModuleSpec(KIND, {"num_features": num_features} | ({} if eps is None else {"eps": eps}))


def build(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    no_children(children)
    return nn.BatchNorm2d(**checked(arguments, {"num_features": SIZE}, eps=real(0, 1)))
