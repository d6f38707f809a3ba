"""Groups of parameters that are zero together: all values that write a channel, so that a zero group writes zeros.

A unit is a channel of a group of coupled channels: its rows of convolutions or linear layers, with their biases, and its
entries of BatchNorm's γ and β (zero-invariant groups: T. Chen et al., Only Train Once, NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from methods.families.structured import Group, Keep


class Units:
    """`rows` maps parameters to the unit of each of their rows: (len(parameter),), where `count` means none."""

    def __init__(self, rows: Mapping[Tensor, Tensor], count: int) -> None:
        self.parameters, self.count = list(rows), count
        self._rows = torch.cat(list(rows.values()))
        self._lengths = [len(parameter) for parameter in rows]
        self._shapes = [(-1, *(1,) * (parameter.ndim - 1)) for parameter in rows]

    def to(self, device: torch.device) -> Units:
        self._rows = self._rows.to(device)
        return self

    def products(self, left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
        """The inner product of two sets of tensors for each unit, (count,): they are shaped as the parameters, in order."""
        by_row = [torch.linalg.vecdot(*_flat(a, b)) for a, b in zip(left, right, strict=True)]
        sums: Tensor = by_row[0].new_zeros(self.count + 1)
        return sums.index_add_(0, self._rows, torch.cat(by_row))[: self.count]

    def spread(self, values: Tensor, rest: float) -> list[Tensor]:
        """For each parameter a factor by row that broadcasts to it: of `values` (count,), or `rest` without a unit."""
        parts = torch.split(torch.cat([values, values.new_full((1,), rest)])[self._rows], self._lengths)
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]


def _flat(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors as (rows, values), in the order of their memory and without a copy if they share a layout."""
    if a.ndim == 4 and a.stride() == b.stride() and not a.is_contiguous():  # channels last
        a, b = a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1)
    return a.reshape(len(a), -1), b.reshape(len(b), -1)


def units(network: nn.Module, groups: Sequence[Group]) -> Units:
    """The units of a network: channel j of a group is unit (sizes of the groups before it) + j."""
    count = sum(group.size for group in groups)
    rows: dict[Tensor, Tensor] = {}
    start = 0
    for group in groups:
        for member in group.side("out", "depthwise", "norm", "scatter"):
            for parameter in network.get_submodule(member.path).parameters():
                own = rows.setdefault(parameter, torch.full((len(parameter),), count))
                own[member.entries] = start + member.channels
        start += group.size
    return Units(rows, count)


def flat(groups: Sequence[Group], keep: Keep) -> Tensor:
    """1 for units that are kept and 0 for others, (units,)."""
    return torch.cat([keep[group.name] for group in groups]).float()


@torch.no_grad()
def sizes(network: nn.Module, groups: Sequence[Group]) -> dict[str, Tensor]:
    """The root mean square of the values of each channel, (size,) by group."""
    found = units(network, groups)
    ones = [torch.ones_like(parameter) for parameter in found.parameters]
    squares, counts = found.products(found.parameters, found.parameters), found.products(ones, ones)
    parts = torch.split((squares / counts).sqrt(), [group.size for group in groups])
    return {group.name: part for group, part in zip(groups, parts, strict=True)}
