"""Bit operations of a network during the search: a differentiable function of its gates, and the gates that close next."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.errors import MethodError
from benchmarks.evaluation.bops import FLOAT, PICTURE
from methods.families.quantised_activations import ENDS
from methods.families.structured.cost import Cost
from methods.sbs.gates import BITS, Grid
from methods.sbs.searched import SIDES, Gated, Searched


class Operations:
    """The bit operations of a searched network for one item: Σ multiply-accumulates · weight bits · input bits, over layers.

    Multiply-accumulates follow from the numbers of channels that remain. The first layer reads images of 8 bits. Without grids,
    weights and inputs have 32 bits. `dense` is the number of the uncompressed network.
    """

    def __init__(self, network: Searched, cost: Cost) -> None:
        self.network = network
        self.paths = list(network.layers())
        self.layers: list[Gated] = list(network.layers().values())
        names = [group.name for group in network.groups]
        units, places = [], []
        for path in self.paths:
            layer = cost.layers[path]
            units.append(layer.unit * layer.outputs[1] * layer.inputs[1])
            places.append(
                [len(names) if name is None else names.index(name) for name, _ in (layer.outputs, layer.inputs)]
            )
        self._places = torch.tensor(places)
        gated = [[n for n, layer in enumerate(self.layers) if _is_gated(getattr(layer, which))] for which in SIDES]
        fixed = [[_fixed(layer, which) for layer in self.layers] for which in SIDES]
        exact = torch.float64
        self._constants = [torch.tensor(units, dtype=exact), self._places]
        self._constants += [*map(torch.tensor, gated), *(torch.tensor(bits, dtype=exact) for bits in fixed)]
        sizes = {group.name: group.size for group in network.groups}
        self.dense = cost.macs(sizes) * FLOAT * FLOAT

    def total(self, soft: str = "") -> Tensor:
        """Bit operations, in fp64. They are differentiable in the gates of filters and in those of "weights" or "inputs".

        The bits of the other kind, or of both, are held at what the gates choose.
        """
        sides = [self._bits(which, which == soft) for which in SIDES]
        return self._terms(self.channels(), *sides).sum()

    def to(self, device: torch.device) -> None:
        """Move the constants to a device."""
        self._constants = [constant.to(device) for constant in self._constants]

    def channels(self) -> Tensor:
        """The channels that remain of each group, differentiable, and a 1 for what is in no group."""
        pairs = zip(self.network.gates, self.network.pairs(), strict=True)
        counts = [(gates.double() * filters.sizes).sum() for gates, (_, filters) in pairs]
        return torch.stack([*counts, self._constants[0].new_ones(())])

    def _terms(self, channels: Tensor, weights: Tensor, inputs: Tensor) -> Tensor:
        units, places, *_ = self._constants
        return units * channels[places].prod(1) * weights * inputs

    def _bits(self, which: str, soft: bool) -> Tensor:
        """2 + g₁ (2 + 4 g₂) for each gated layer, and the fixed bits of others."""
        side = SIDES.index(which)
        gated, fixed = self._constants[2 + side], self._constants[4 + side]
        grids = self.network.grids(which)
        if not grids:
            return fixed
        gates = torch.stack([grid.gates for grid in grids]).double()
        gates = gates if soft else gates.detach()
        low, middle, high = BITS
        bits = low + gates[:, 0] * (middle - low + gates[:, 1] * (high - middle))
        return fixed.index_put((gated,), bits)

    @torch.no_grad()
    def meet(self, goal: float) -> int:
        """Close gates, by raising their thresholds, until at most `goal` bit operations are left; returns how many.

        The next is the gate that a rising weight of the cost would close first: thresholds rise in proportion to the share of
        the cost that a gate saves, so that it has the smallest ratio of margin and saving. Raises MethodError if too much is
        left.
        """
        closed = 0
        self.to(next(self.network.parameters()).device)
        self.hard()
        while (now := float(self.total())) > goal * (1 + 1e-9):
            options = self._options()
            if not options:
                msg = (
                    f"bit operations can't fall to {goal:,.0f}: with all gates closed, {now:,.0f} remain; ask for less"
                )
                raise MethodError(msg)
            _, close = min(options, key=lambda option: option[0])
            close()
            self.hard()
            closed += 1
        return closed

    @torch.no_grad()
    def hard(self) -> None:
        """Let all gates be those of eval mode, without a pass."""
        self.network.refresh()
        for grid in (grid for which in SIDES for grid in self.network.grids(which)):
            chosen = BITS.index(grid.bits())
            grid.gates = torch.tensor([float(chosen > 0), float(chosen > 1)], device=grid.metric.device)

    def _options(self) -> list[tuple[float, Callable[[], None]]]:
        """(margin / saving of log R, how to close it) of each gate that may close next."""
        sides = [self._bits(which, False) for which in SIDES]
        channels = self.channels()
        terms = self._terms(channels, *sides)
        total = float(terms.sum())
        found: list[tuple[float, Callable[[], None]]] = []
        for which, bits in zip(SIDES, sides, strict=True):
            for layer, term, b in zip(self.layers, terms.tolist(), bits.tolist(), strict=True):
                grid: Grid | None = getattr(layer, which)
                if grid is not None and _is_gated(grid) and b > BITS[0]:
                    saved = term * (1 - BITS[BITS.index(int(b)) - 1] / b)
                    found.append((_price(grid.margin(), total, saved), grid.close))
        read = (self._places[:, :, None] == torch.arange(len(channels))).any(1).to(terms)
        by_group = (terms[:, None] * read).sum(0).tolist()
        for number, (group, filters) in enumerate(self.network.pairs()):
            weights = self.network.by_channel(group)
            if (margin := filters.margin(weights)) is not None:
                saved = by_group[number] * margin[1] / float(channels[number])
                found.append((_price(margin[0], total, saved), lambda f=filters, w=weights: f.close(w)))  # type: ignore[misc]
        return found


def _price(margin: float, total: float, saved: float) -> float:
    return margin / -math.log1p(-min(saved / total, 1 - 1e-12)) if saved else math.inf


def _is_gated(grid: Grid | None) -> bool:
    return grid is not None and grid.thresholds is not None


def _fixed(layer: Gated, which: str) -> float:
    """The bits of a side of a layer that has no gates there."""
    if layer.weights is None:
        return FLOAT
    return PICTURE if which == "inputs" and layer.inputs is None else ENDS
