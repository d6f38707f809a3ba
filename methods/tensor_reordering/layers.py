"""Which weights are reordered, and the rate of each (official code, for ResNet-50 and MobileNet-V2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from torch import Tensor, nn

from methods.families import storage

LARGEST = 3  # side of a window
Schedule: TypeAlias = Literal["progressive", "uniform"]


def weights(network: nn.Module, groups: int, skip: Iterable[str] = ()) -> dict[str, Tensor]:
    """The reordered weights by path: of linear layers and of convolutions with windows of up to 3 pixels a side.

    Left out are the first convolution, grouped convolutions, modules in `skip` with all that they contain, and weights that do
    not divide into `groups` rows. Raises MethodError if the network has no layer at all.
    """
    found = {}
    skipped = tuple(f"{path}." for path in skip)
    seen_convolution = False
    for path, layer in storage.layers(network).items():
        if not isinstance(layer, nn.Linear):
            first, seen_convolution = not seen_convolution, True
            if first or layer.groups > 1 or max(layer.kernel_size) > LARGEST:
                continue
        if layer.weight.numel() % groups == 0 and not f"{path}.".startswith(skipped):
            found[f"{path}.weight"] = layer.weight.detach()
    return found


def rates(found: Mapping[str, Tensor], rate: float, schedule: Schedule) -> dict[str, float]:
    """ρ of each weight: 1 + r′√(S/S₀) for S values, where the smallest reordered weight has S₀, or the same `rate` for all.

    The official code gives √S₀ as 64 for ResNet-50 and √(384 · 64) for MobileNet-V2: the smallest weights of these networks.
    """
    if schedule == "uniform":
        return dict.fromkeys(found, rate)
    reference = math.sqrt(min(weight.numel() for weight in found.values()))
    return {path: 1 + rate * math.sqrt(weight.numel()) / reference for path, weight in found.items()}
