"""The cost of a network as a quadratic polynomial of the shares of channels that its groups keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from methods.families.structured import Group
from methods.families.structured.cost import Cost

Vector: TypeAlias = npt.NDArray[np.float64]


class Polynomial:
    """F(x) = constant + linear · x + xᵀ products x, for shares x (L,) of the widths `full` (L,)."""

    def __init__(self, full: Sequence[int]) -> None:
        self.full = np.array(full, dtype=float)
        self.constant = 0.0
        self.linear = np.zeros(len(full))
        self.products = np.zeros((len(full), len(full)))

    def add(self, amount: float, *variables: int | None) -> None:
        """Add a term that is `amount` at full width and proportional to the shares of `variables` (None: always full)."""
        known = [variable for variable in variables if variable is not None]
        if len(known) == 2:
            self.products[known[0], known[1]] += amount
        elif known:
            self.linear[known[0]] += amount
        else:
            self.constant += amount

    def __call__(self, x: Vector) -> float:
        return float(self.constant + self.linear @ x + x @ self.products @ x)

    def gradient(self, x: Vector) -> Vector:
        found: Vector = self.linear + (self.products + self.products.T) @ x
        return found


def of(cost: Cost, groups: Sequence[Group]) -> Polynomial:
    """The multiply-accumulates of a network, one variable for each group, in their order."""
    found = Polynomial([group.size for group in groups])
    places = {group.name: place for place, group in enumerate(groups)}
    dense = {group.name: group.size for group in groups}
    for layer in cost.layers.values():
        sides = [name for name, _ in (layer.outputs, layer.inputs) if name is not None]
        found.add(layer.macs(dense), *(places[name] for name in sides))
    return found
