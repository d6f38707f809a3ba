"""The network during the search: layers with gates on bits, and gates on groups of filters, which the next layer reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from methods.families.quantised_activations import Seen, clip_range, normalised, replace
from methods.families.structured import Group
from methods.families.structured.allocation import by_channel
from methods.families.structured.channels import Member
from methods.sbs.gates import Filters, Grid

SIDES = ("weights", "inputs")
START_BITS = 4  # of the grids whose error decides where calibrated clip ranges start


class Gated(nn.Module):
    """A layer whose weights and inputs have a `Grid` each, or none.

    `rows` and `columns` are the filters and input channels that count now, as numbers 0 or 1, or None for all: closed input
    channels read zeros, and normalisation leaves closed weights out. The first layer has no grid of inputs.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, weights: Grid | None, inputs: Grid | None) -> None:
        super().__init__()
        self.layer = layer
        self.weights, self.inputs = weights, inputs
        self.rows: Tensor | None = None
        self.columns: Tensor | None = None

    def kept(self) -> Tensor | None:
        """Which entries of the weight count, broadcast to its shape; None for all."""
        more = (1,) * (self.layer.weight.ndim - 2)
        rows = None if self.rows is None else self.rows.detach().view(-1, 1, *more)
        columns = None if self.columns is None else self.columns.detach().view(1, -1, *more)
        if rows is None or columns is None:
            return columns if rows is None else rows
        return rows * columns

    def forward(self, x: Tensor) -> Tensor:
        kept, weight = self.kept(), self.layer.weight
        if self.weights is not None:
            weight = weight if isinstance(self.layer, nn.Linear) else normalised(weight, kept)
            weight = self.weights(weight, kept)
        x = x if self.inputs is None else self.inputs(x)
        if self.columns is not None:
            x = x * self.columns.view(-1, *(1,) * (x.ndim - 2)).to(x.dtype)
        found: Tensor = torch.func.functional_call(self.layer, {"weight": weight}, (x,))
        return found


class Searched(nn.Module):
    """A network whose layers are `Gated`, with `filters` for each of `groups`.

    `gates` are those of each group in the last pass, differentiable in training. The network is changed in place.
    """

    def __init__(self, network: nn.Module, groups: Sequence[Group], size: int, most: float) -> None:
        super().__init__()
        self.network = network
        self.groups = list(groups)
        self.filters = nn.ModuleList(Filters(group.size, size, most) for group in groups)
        self.gates: list[Tensor] = []
        for name, member in self._members():
            places = torch.empty_like(member.entries).index_put((member.entries,), member.channels)
            self.register_buffer(name, places, persistent=False)  # the channel of each entry

    def _members(self) -> list[tuple[str, Member]]:
        return [
            (f"places_{n}_{m}", member) for n, group in enumerate(self.groups) for m, member in enumerate(group.members)
        ]

    def layers(self) -> dict[str, Gated]:
        return {path: module for path, module in self.network.named_modules() if isinstance(module, Gated)}

    def grids(self, which: str) -> list[Grid]:
        """The gated grids of all "weights" or all "inputs", in the order of the layers."""
        found = (getattr(layer, which) for layer in self.layers().values())
        return [grid for grid in found if grid is not None and grid.thresholds is not None]

    def by_channel(self, group: Group) -> Tensor:
        """The weights (size, d) of the layers that write a group's channels, differentiable."""
        paths = [member.path for member in group.side("out")]
        return by_channel(group, {path: self.network.get_submodule(path).layer.weight for path in paths})  # type: ignore[union-attr,misc]

    def refresh(self) -> None:
        """Set the rows and columns of all layers by the gates as they are now."""
        self.gates = []
        channels: list[Tensor] = []  # of each member
        for group, filters in self.pairs():
            self.gates.append(filters.gates(self.by_channel(group)))
            channels += [self.gates[-1][filters.of]] * len(group.members)
        for (name, member), own in zip(self._members(), channels, strict=True):
            layer = self.network.get_submodule(member.path)
            if isinstance(layer, Gated):
                found = own[self.get_buffer(name)]
                if member.side == "in":
                    layer.columns = found
                else:
                    layer.rows = found

    def pairs(self) -> list[tuple[Group, Filters]]:
        """The groups with their gates."""
        return list(zip(self.groups, cast("list[Filters]", list(self.filters)), strict=True))

    def forward(self, x: Tensor) -> Tensor:
        self.refresh()
        found: Tensor = self.network(x)
        return found

    @torch.no_grad()
    def keep(self) -> dict[str, Tensor]:
        """The channels that remain: a mask (size,) by the name of each group."""
        self.refresh()
        pairs = zip(self.pairs(), self.gates, strict=True)
        return {group.name: (gates > 0)[filters.of].cpu() for (group, filters), gates in pairs}

    def thresholds(self) -> dict[str, list[nn.Parameter]]:
        """The thresholds by what they gate: "weights" with those of filters, and "inputs"."""
        by_bits = {
            which: [grid.thresholds for grid in self.grids(which) if grid.thresholds is not None] for which in SIDES
        }
        by_bits["weights"] += [filters.threshold for _, filters in self.pairs()]
        return by_bits


def searched(
    network: nn.Module,
    paths: Sequence[str],
    known: Mapping[str, Seen],
    groups: Sequence[Group],
    quantise: bool,
    calibrated: bool,
    size: int,
    most: float,
) -> Searched:
    """The network, changed in place, with a `Gated` layer at each path; the first and the last have 8 bits.

    Without `quantise`, no layer has a grid. `calibrated` clip ranges have the least squared error, others start at 1.
    """
    for path in paths:
        layer: Any = network.get_submodule(path)
        weights = inputs = None
        if quantise:
            ends = path in (paths[0], paths[-1])
            weights = Grid(signed=True, gated=not ends)
            inputs = None if path == paths[0] else Grid(known[path].signed, gated=not ends)
            if calibrated:
                weight = layer.weight if isinstance(layer, nn.Linear) else normalised(layer.weight)
                _calibrate(weights, weight)
                if inputs is not None:
                    _calibrate(inputs, known[path].sample)
        replace(network, path, Gated(layer, weights, inputs))
    return Searched(network, groups, size, most)


@torch.no_grad()
def _calibrate(grid: Grid, values: Tensor) -> None:
    grid.clip.copy_(clip_range(values, START_BITS, grid.signed))
