"""Bit operations of a network, counted from its own modules.

A multiply-accumulate of a weight of b bits and an input of c bits takes b · c bit operations (Liu et al., Single-path Bit
Sharing, IEEE TPAMI 2023, whose tables count so).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from benchmarks.bitstream.modules.quantised_layer import QuantisedLayer
from benchmarks.evaluation import measure
from benchmarks.evaluation.inference import inference

FLOAT = 32  # bits of values that no grid holds
PICTURE = 8  # bits of the values of images, which the first layer reads


def count(network: nn.Module, example: Tensor) -> int:
    """Bit operations for one item of the size of `example` (1, …), zeros included.

    Weights and inputs count with the bits of their `QuantisedLayer`, and otherwise with 32. A weight with more different
    values than its bits allow counts with what these values need. The layer that is called first reads images of 8 bits per
    value, and counts with them if it is a `QuantisedLayer` that leaves its inputs as they are. Products outside of
    convolutions and linear layers count with 32 bits on both sides.
    """
    wrapped = {id(module.layer): module for module in network.modules() if isinstance(module, QuantisedLayer)}
    found: list[tuple[int, int]] = []  # of each call: multiply-accumulates, bit operations of each

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        macs = _macs(layer, output)
        around = wrapped.get(id(layer))
        found.append((macs, FLOAT * FLOAT if around is None else _bits(around, first=not found)))

    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with inference(network):
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    others = measure.macs(network, example) - sum(macs for macs, _ in found)
    return sum(macs * each for macs, each in found) + max(others, 0) * FLOAT * FLOAT


def _macs(layer: nn.Module, output: Tensor) -> int:
    if isinstance(layer, nn.Linear):
        return output[0].numel() * layer.in_features
    assert isinstance(layer, nn.Conv2d)
    return output[0].numel() * layer.in_channels // layer.groups * math.prod(layer.kernel_size)


def _bits(module: QuantisedLayer, first: bool) -> int:
    """Bit operations of a multiply-accumulate."""
    different = int(torch.unique(module.layer.weight).numel())
    weight: int = max(module.weight_bits, (different - 1).bit_length())
    inputs: int = module.input_bits or (PICTURE if first else FLOAT)
    return weight * inputs
