"""Multiply-accumulates of a network for any choice of channels, without building it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.families.structured.channels import Group


@dataclass(frozen=True)
class Layer:
    """A layer's MACs: `unit` · outputs · inputs; each is a fixed number, or entries per channel of a group."""

    unit: int
    outputs: tuple[str | None, int]
    inputs: tuple[str | None, int]

    def macs(self, counts: Mapping[str, int]) -> int:
        sizes = (n * counts[group] if group is not None else n for group, n in (self.outputs, self.inputs))
        return self.unit * next(sizes) * next(sizes)


@dataclass(frozen=True)
class Cost:
    """Convolutions and linear layers of a network, by path."""

    layers: Mapping[str, Layer]

    def macs(self, counts: Mapping[str, int]) -> int:
        """Multiply-accumulates for one image, given the number of channels of each group; zeros in kept channels count."""
        return sum(layer.macs(counts) for layer in self.layers.values())


@torch.no_grad()
def measure(network: nn.Module, groups: Sequence[Group], example: Tensor) -> Cost:
    """The cost model of a network for inputs of the size of `example` (1, C, H, W)."""
    places: dict[str, int] = {}
    layers = {p: m for p, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}

    def count(path: str, output: Tensor) -> None:
        places[path] = output[0].numel() // output.shape[1] if output.ndim > 2 else 1

    hooks = [m.register_forward_hook(lambda _m, _x, y, path=p: count(path, y)) for p, m in layers.items()]
    network.eval()(example)
    for hook in hooks:
        hook.remove()
    sides = {
        (member.path, member.side): (group.name, len(member.entries) // group.size)
        for group in groups
        for member in group.members
    }
    found = {}
    for path, layer in layers.items():
        if isinstance(layer, nn.Linear):
            unit, outputs, inputs = 1, layer.out_features, layer.in_features
        else:
            unit, outputs, inputs = layer.kernel_size[0] * layer.kernel_size[1], layer.out_channels, layer.in_channels
        written = sides.get((path, "out"), sides.get((path, "depthwise"), (None, outputs)))
        read = sides.get((path, "in"), (None, inputs // getattr(layer, "groups", 1)))
        found[path] = Layer(unit * places[path], written, read)
    return Cost(found)
