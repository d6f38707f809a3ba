"""Chains of convolutions with a gate for each rank: the norm of its kernel, as in weight normalisation."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.families.slim import Slim
from methods.funnel.factors import chain, factorised, layers, recomposed, windows


class GatedConv2d(nn.Module):
    """A convolution without bias whose kernel for output j is gate_j · direction_j / ‖direction_j‖."""

    def __init__(self, kernel: Tensor, stride: object, padding: object, dilation: object) -> None:
        super().__init__()
        self.direction = nn.Parameter(kernel.float().clone())
        self.gates = nn.Parameter(kernel.flatten(1).norm(dim=1).float())
        self._window = (stride, padding, dilation)

    def kernel(self) -> Tensor:
        norms = self.direction.flatten(1).norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
        scaled: Tensor = self.direction * (self.gates / norms).view(-1, 1, 1, 1)
        return scaled

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel(), None, *self._window)  # type: ignore[call-overload,no-any-return]


@dataclass(frozen=True, eq=False)
class Gated:
    """A network in which chains stand for convolutions, and the dense layers by path."""

    network: nn.Module
    layers: Mapping[str, nn.Conv2d]

    def gates(self) -> list[nn.Parameter]:
        """One vector for each gated convolution; the last convolution of a chain has none."""
        return [link.gates for path in self.layers for link in self.links(path)]

    def links(self, path: str) -> list[GatedConv2d]:
        """The gated convolutions of a chain."""
        return [link for link in self.network.get_submodule(path).children() if isinstance(link, GatedConv2d)]

    def last(self, path: str) -> nn.Module:
        """The convolution of a chain that has no gates."""
        *_, last = self.network.get_submodule(path).children()
        return last

    @torch.no_grad()
    def kernels(self, path: str) -> list[Tensor]:
        """The kernels of a chain without the ranks whose gate is zero: (outputs, inputs, height, width) each."""
        kernels = [*(link.kernel() for link in self.links(path)), self.last(path).get_parameter("weight")]
        for place, link in enumerate(self.links(path)):
            kept = link.gates != 0
            kernels[place] = kernels[place][kept]
            kernels[place + 1] = kernels[place + 1][:, kept]
        return [kernel.detach().clone() for kernel in kernels]

    @torch.no_grad()
    def slim(self, factored: Mapping[str, bool]) -> Slim:
        """The network with plain convolutions: chains without the ranks of gate zero, or dense layers if not `factored`."""
        replaced = {path: self.kernels(path) for path in self.layers}
        edits = {path: chain(self.layers[path], replaced[path]) for path in replaced if factored[path]}
        tensors: dict[str, Tensor] = {}
        for path, kernels in replaced.items():
            bias = self.last(path)._parameters["bias"]
            end = f"{path}.{len(kernels) - 1}" if factored[path] else path
            tensors |= {} if bias is None else {f"{end}.bias": bias.detach().clone()}
            if factored[path]:
                tensors |= {f"{path}.{place}.weight": kernel for place, kernel in enumerate(kernels)}
            else:
                tensors[f"{path}.weight"] = recomposed(kernels)
        return Slim(edits, tensors=tensors)


@torch.no_grad()
def gated(reference: nn.Module, balanced: bool = False) -> Gated:
    """The network with a gated chain in the place of each layer of `factors.layers`; it computes the same function."""
    network = copy.deepcopy(reference)
    found = layers(network)
    for path, layer in found.items():
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, _chain(layer, path, balanced))
    return Gated(network, found)


def _chain(layer: nn.Conv2d, path: str, balanced: bool) -> nn.Sequential:
    *first, last = factorised(layer, path, balanced)
    made: list[nn.Module] = [
        GatedConv2d(kernel, window.get("stride", 1), window.get("padding", 0), window.get("dilation", 1))
        for kernel, window in zip(first, windows(layer), strict=False)
    ]
    restore = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, last.shape[1], len(last), 1, bias=layer.bias is not None
    )
    assert isinstance(restore, nn.Conv2d)
    restore.weight.copy_(last)
    if layer.bias is not None and restore.bias is not None:
        restore.bias.copy_(layer.bias)
    return nn.Sequential(*made, restore)
