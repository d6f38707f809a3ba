"""The decoder module of a linear layer whose weight stays compressed in memory, and its description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.bitstream.bounds import SIZE, checked, flag, no_children, whole
from benchmarks.bitstream.codecs import index, raw
from methods.hac.canonical import Code, pack
from methods.hac.formats import Format, sparse, symbols_of
from methods.hac.kernels import Array
from methods.hac.product import product
from methods.interface import ModuleSpec, Part


class HuffmanLinear(nn.Module):
    """A linear layer (B, in_features) → (B, out_features) by the product from the stream of HAC or, with `entries`, of sHAC.

    `size` are the bytes of the stream, `known` the values of the dictionary, `entries` the weights that are not zero.
    """

    counts: Tensor | None
    places: Tensor | None

    def __init__(
        self, in_features: int, out_features: int, size: int, known: int, entries: int | None = None, bias: bool = False
    ) -> None:
        super().__init__()
        if size % 4:
            raise ValueError("size has to be a multiple of 4: a stream consists of words")
        coded = in_features * out_features if entries is None else entries
        if coded > min(8 * size, in_features * out_features):
            raise ValueError("size has to hold at least a bit for each coded weight")
        self.in_features = in_features
        self.values = nn.Parameter(torch.empty(known))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.register_buffer("stream", torch.empty(size, dtype=torch.uint8))
        self.register_buffer("ends", torch.empty(out_features, dtype=torch.int32))
        self.register_buffer("lengths", torch.empty(known + 1, dtype=torch.uint8))
        kind = _integer(in_features)
        self.register_buffer("counts", None if entries is None else torch.empty(out_features, dtype=kind))
        self.register_buffer("places", None if entries is None else torch.empty(entries, dtype=kind))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.in_features:
            msg = f"the layer takes {self.in_features} features, not {x.shape[-1]}"
            raise ValueError(msg)
        flat = x.reshape(-1, x.shape[-1]).float()
        found: Tensor = product(flat, self.stream, self.ends, self.lengths, self.values, self.counts, self.places)
        if self.bias is not None:
            found = found + self.bias
        return found.reshape(*x.shape[:-1], found.shape[-1])


def _integer(most: int) -> torch.dtype:
    """The smallest type for numbers from 0 to `most`."""
    return torch.uint8 if most < 2**8 else torch.int16 if most < 2**15 else torch.int32


def described(path: str, layer: nn.Linear, name: Format, values: Array, code: Code) -> tuple[ModuleSpec, list[Part]]:
    """The replacement of a layer in the format "hac" or "shac", and the parts that fill its tensors, without its bias.

    `values` and `code` are those of its group.
    """
    matrix = layer.weight.detach().numpy()
    symbols = symbols_of(matrix, values)
    words, ends = pack(symbols if name == "hac" else symbols - (symbols == 0), code)
    octets = words.astype("<u4").view(np.uint8)
    arguments: dict[str, Any] = {
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "size": len(octets),
        "known": len(values),
        "bias": layer.bias is not None,
    }
    parts = [
        index.part([f"{path}.stream"], [octets], 256, "weights"),
        index.part([f"{path}.ends"], [ends], int(ends.max()) + 1),
        index.part([f"{path}.lengths"], [code.lengths], 64, "codebooks"),
        raw.part([f"{path}.values"], [values], "codebooks"),
    ]
    if name == "shac":
        rows, counts = sparse(matrix)
        arguments["entries"] = len(rows)
        parts.append(index.part([f"{path}.counts", f"{path}.places"], [counts, rows], layer.in_features + 1))
    return ModuleSpec("hac.linear", arguments), parts


def build(arguments: Mapping[str, Any], children: Sequence[nn.Module]) -> nn.Module:
    no_children(children)
    required = {"in_features": SIZE, "out_features": SIZE, "size": whole(0, 2**30), "known": whole(0, 2**16)}
    return HuffmanLinear(**checked(arguments, required, entries=whole(0, 2**28), bias=flag))


MODULES = {"linear": SimpleNamespace(build=build)}
