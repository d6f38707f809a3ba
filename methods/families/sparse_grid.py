"""How a network with many zeros is stored: kept weights as integers on a grid for each tensor, all other values in fp16."""

from __future__ import annotations

from torch import nn

from benchmarks.bitstream.codecs import sparse, uniform
from methods.families import grid, storage
from methods.families.norms import norm_parts
from methods.interface import Part


def parts(network: nn.Module, bits: int) -> tuple[Part, ...]:
    """Sparse weights on a grid of 2^bits − 1 levels per tensor; BatchNorm as scale and shift, which are in fp16 like biases."""
    found = storage.tensors(network)
    weights = storage.matrices(found)
    steps = [float(grid.step(values, bits)) for values in weights.values()]
    codes = [uniform.quantise(values, step)[0] for values, step in zip(weights.values(), steps, strict=True)]
    others = {name: values for name, values in found.items() if name not in weights}
    return sparse.part(list(weights), codes, "weights", steps=steps), *norm_parts(network, others)
