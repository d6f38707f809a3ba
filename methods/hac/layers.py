"""Which weights are pruned and share values, and how these are trained (Marinò et al. 2020, Sections III-A and B)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from methods.families import storage
from methods.hac.kernels import Array
from methods.hac.sharing import Rule, shared

Kind: TypeAlias = Literal["dense", "convolutional"]
KINDS: tuple[Kind, ...] = ("dense", "convolutional")
Scope: TypeAlias = Literal["unified", "layer"]


def weights(network: nn.Module) -> dict[Kind, list[str]]:
    """The names of the weights of linear layers and of convolutions, in order."""
    found: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
    for path, layer in storage.layers(network).items():
        found["dense" if isinstance(layer, nn.Linear) else "convolutional"].append(f"{path}.weight")
    return found


@torch.no_grad()
def kept(network: nn.Module, names: Sequence[str], percentile: float) -> dict[str, Tensor]:
    """True where a weight's magnitude is above the percentile of its layer. Sets the other weights to zero."""
    masks = {}
    for name in names:
        weight = network.get_parameter(name)
        mask = torch.from_numpy(np.asarray(weight.abs() > float(np.percentile(weight.abs().numpy(), percentile))))
        weight.masked_fill_(~mask, 0)
        masks[name] = mask
    return masks


class Source(nn.Module):
    """A weight whose entries are 0 or one of the `values` (k,), which several sources may share.

    `numbers` has the shape of the weight: 0 for zero, j for value j − 1. The gradient of a value is the sum of the gradients of
    all its entries (Section III-B).
    """

    numbers: Tensor

    def __init__(self, values: nn.Parameter, numbers: Array) -> None:
        super().__init__()
        self.values = values
        self.register_buffer("numbers", torch.from_numpy(numbers.astype(np.int32)))

    def forward(self) -> Tensor:
        full = torch.cat([self.values.new_zeros(1), self.values])
        return full.index_select(0, self.numbers.flatten()).reshape(self.numbers.shape)


def sources(
    network: nn.Module, groups: Sequence[Sequence[str]], rule: Rule, most: int, generator: np.random.Generator
) -> dict[str, Source]:
    """A source for each weight; those of a group share at most `most` values. Zeros stay zeros."""
    found = {}
    for names in groups:
        arrays = {name: network.get_parameter(name).detach().numpy() for name in names}
        flat = np.concatenate([array.reshape(-1) for array in arrays.values()]).astype(np.float64)
        survives = flat != 0
        numbers = np.zeros(len(flat), np.int64)
        values = np.zeros(0)
        if survives.any():
            values, own = shared(rule, flat[survives], most, generator, int((~survives).sum()))
            numbers[survives] = own + 1
        parameter = nn.Parameter(torch.from_numpy(values.astype(np.float32)))
        ends = np.cumsum([array.size for array in arrays.values()])[:-1]
        for (name, array), piece in zip(arrays.items(), np.split(numbers, ends), strict=True):
            found[name] = Source(parameter, piece.reshape(array.shape))
    return found


def groups_of(names: Sequence[str], scope: Scope) -> list[list[str]]:
    """The weights that share values: all of them, or each for itself."""
    return [list(names)] if scope == "unified" else [[name] for name in names]


@torch.no_grad()
def fill(network: nn.Module, found: Mapping[str, Source]) -> None:
    """Set the weights to the values of their sources."""
    for name, source in found.items():
        network.get_parameter(name).copy_(source())
