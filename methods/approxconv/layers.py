"""Which convolutions are approximated, and with which order."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from methods.approxconv.bases import LARGEST
from methods.families import storage


def convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    """Convolutions with square windows of 2 to 16 pixels a side, by path: 1×1 ones and linear layers stay (official code)."""
    return {
        path: layer
        for path, layer in storage.layers(network).items()
        if isinstance(layer, nn.Conv2d) and 1 < layer.kernel_size[0] == layer.kernel_size[1] <= LARGEST
    }


def orders(network: nn.Module, point: Sequence[int]) -> dict[str, int]:
    """The order of each convolution whose order is below the side of its window: one for each stage, the last stage last.

    If there are more stages (`_stages`) than orders, the first order is that of all earlier stages; if there are fewer, the
    last orders count.
    """
    found = convolutions(network)
    stage = _stages(network, found)
    stages = list(dict.fromkeys(stage.values()))
    padded = [point[0]] * max(0, len(stages) - len(point)) + list(point)
    of_stage = dict(zip(reversed(stages), reversed(padded), strict=False))
    chosen = {path: of_stage[stage[path]] for path in found}
    return {path: order for path, order in chosen.items() if order < found[path].kernel_size[0]}


def _stages(network: nn.Module, found: Collection[str]) -> dict[str, int]:
    """The number of the stage of each convolution.

    A stage has the convolutions of one top-level module or, if one such module has them all, of one of its children. In an
    nn.Sequential (VGG, MobileNet-V2), it has those of neighbours: a child with a stride above 1 begins a stage.
    """
    tops = list(dict.fromkeys(path.split(".")[0] for path in found))
    nested = len(tops) == 1 and not isinstance(network, nn.Sequential)
    parent, prefix = (network.get_submodule(tops[0]), f"{tops[0]}.") if nested else (network, "")
    stages, number = {}, 0
    for name, child in parent.named_children():
        number += not isinstance(parent, nn.Sequential) or _reduces(child)
        own = f"{prefix}{name}"
        stages |= {path: number for path in found if f"{path}.".startswith(f"{own}.")}
    return stages


def _reduces(module: nn.Module) -> bool:
    strides = (getattr(m, "stride", 1) for m in module.modules())
    return any(max(stride) > 1 if isinstance(stride, tuple) else stride > 1 for stride in strides)


def parameters(network: nn.Module, chosen: dict[str, int]) -> int:
    """Parameters with approximated kernels as coefficients; BatchNorm's scale and shift count, a stored basis does not."""
    layers = convolutions(network)
    saved = (
        layers[path].weight.numel() * (layers[path].kernel_size[0] ** 2 - order**2) // layers[path].kernel_size[0] ** 2
        for path, order in chosen.items()
    )
    return sum(parameter.numel() for parameter in network.parameters()) - sum(saved)
