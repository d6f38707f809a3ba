"""Multiply-accumulates of a network for any choice of channels, without building it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from benchmarks.errors import MethodError
from methods.families import storage
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
    """The cost model of a network for inputs of the size of `example` (1, C, H, W).

    Raises MethodError for a layer that is not called: its weight may be used, but its cost can't be seen.
    """
    places: dict[str, int] = {}
    layers = {p: m for p, m in network.named_modules() if isinstance(m, storage.Layer)}

    def count(path: str, found: Tensor) -> None:
        channels = found.shape[-1] if isinstance(layers[path], nn.Linear) else found.shape[1]
        places[path] = places.get(path, 0) + found[0].numel() // channels

    def hook(path: str, layer: nn.Module) -> RemovableHandle:
        transposed = getattr(layer, "transposed", False)  # each input place, not each output place, meets the kernel
        return layer.register_forward_hook(lambda _m, x, y: count(path, x[0] if transposed else y))

    hooks = [hook(path, layer) for path, layer in layers.items()]
    network.eval()(example)
    for each in hooks:
        each.remove()
    if unseen := [path for path in layers if path not in places]:
        msg = (
            f"{unseen[0]} is not called as a module in a forward pass, so that its multiply-accumulates can't be counted: "
            "call the module instead of a function with its weight, or remove it if it is not used"
        )
        raise MethodError(msg)
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
            unit, outputs, inputs = math.prod(layer.kernel_size), layer.out_channels, layer.in_channels
        written = sides.get((path, "out"), sides.get((path, "depthwise"), (None, outputs)))
        read = sides.get((path, "in"), (None, inputs // getattr(layer, "groups", 1)))
        found[path] = Layer(unit * places[path], written, read)
    return Cost(found)
