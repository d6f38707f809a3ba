"""How many units may still become zero: the network's multiply-accumulates, counted on the device without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from methods.families.structured import Group
from methods.families.structured.cost import Cost


class Cap:
    """At most so many units become zero that the last one brings the multiply-accumulates to `goal`.

    If a step would exceed that, a random part of its units becomes zero, by the fixed order that `generator` draws. The
    largest unit of each group never does.
    """

    def __init__(self, groups: Sequence[Group], cost: Cost, goal: float, generator: torch.Generator) -> None:
        places = {group.name: number for number, group in enumerate(groups)}
        sides = [(*layer.outputs, *layer.inputs, layer.unit) for layer in cost.layers.values()]
        one = len(groups)  # the place of the constant 1 after the counts
        self._a = torch.tensor([one if a is None else places[a] for a, *_ in sides])
        self._b = torch.tensor([one if b is None else places[b] for _, _, b, *_ in sides])
        self._each = torch.tensor([float(unit * m * n) for _, m, _, n, unit in sides], dtype=torch.float64)
        self._group = torch.cat([torch.full((group.size,), number) for number, group in enumerate(groups)])
        self._order = torch.randperm(len(self._group), generator=generator)
        self._member = torch.eye(one, dtype=torch.float64)[self._group[self._order]]
        self._goal = goal

    def to(self, device: torch.device) -> Cap:
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    def macs(self, counts: Tensor) -> Tensor:
        """Multiply-accumulates for numbers of channels by group: (…, groups) -> (…)."""
        known = torch.cat([counts, torch.ones_like(counts[..., :1])], -1)
        return (known[..., self._a] * known[..., self._b] * self._each).sum(-1)

    def counts(self, alive: Tensor) -> Tensor:
        """The channels of each group that are not zero: (groups,)."""
        return alive[self._order].to(self._member) @ self._member

    def met(self, alive: Tensor) -> Tensor:
        """Whether the goal is met: a truth value on the device."""
        return self.macs(self.counts(alive)) <= self._goal

    def permitted(self, wanted: Tensor, alive: Tensor, squares: Tensor) -> Tensor:
        """Those of the `wanted` units (mask) that may become zero; `squares` (units,) are their squared norms."""
        largest = squares.new_zeros(self._member.shape[1]).scatter_reduce(0, self._group, squares * alive, "amax")
        wanted = (wanted & (squares < largest[self._group]))[self._order]
        left = self.counts(alive) - (self._member * wanted[:, None]).cumsum(0)
        after = self.macs(left)
        before = torch.cat([self.macs(self.counts(alive))[None], after[:-1]])
        found = torch.empty_like(wanted)
        found[self._order] = wanted & (before > self._goal)
        return found
