"""Which convolutions are approximated, and with which order."""

from __future__ import annotations

from collections.abc import Sequence

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

    A stage has the convolutions of one top-level module or, if one such module has them all, of one of its children. If there
    are more stages than orders, the first order is that of all earlier stages; if there are fewer, the last orders count.
    """
    found = convolutions(network)
    depth = 1 if len({path.split(".")[0] for path in found}) > 1 else 2
    stages = list(dict.fromkeys(_stage(path, depth) for path in found))
    padded = [point[0]] * max(0, len(stages) - len(point)) + list(point)
    of_stage = dict(zip(reversed(stages), reversed(padded), strict=False))
    chosen = {path: of_stage[_stage(path, depth)] for path in found}
    return {path: order for path, order in chosen.items() if order < found[path].kernel_size[0]}


def _stage(path: str, depth: int) -> str:
    return ".".join(path.split(".")[:depth])


def parameters(network: nn.Module, chosen: dict[str, int]) -> int:
    """Parameters with approximated kernels as coefficients; BatchNorm's scale and shift count, a stored basis does not."""
    layers = convolutions(network)
    saved = (
        layers[path].weight.numel() * (layers[path].kernel_size[0] ** 2 - order**2) // layers[path].kernel_size[0] ** 2
        for path, order in chosen.items()
    )
    return sum(parameter.numel() for parameter in network.parameters()) - sum(saved)
