"""The settings of sparse optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from methods.families.budget import epochs_per_point
from methods.families.limits import Count, Positive, Share, check_order
from methods.families.structured.soft import SOFT, SoftSettings
from methods.interface import Budget

Solver: TypeAlias = Literal["hspg", "prox", "obprox"]


@dataclass(frozen=True)
class Config(SoftSettings):
    """The settings of methods that prune during training, and of a solver.

    `solver` "hspg" and "prox" find channels: for the share `solving` of a point's epochs they minimise the loss plus `strength`
    times the sum of the channels' norms; then the channels that are zero are removed, and the others are trained. "prox" is
    the proximal method, which has no second stage. "obprox" finds single weights, by the l1 norm; its points are the
    `sparsities`, shares of zeros among the weights of convolutions and linear layers. After the shares `drops` of the solver's
    epochs, its learning rate is divided by 10. `first` is the share of the solver's steps before the second stage, in which
    zeros are final. In that stage ε is adapted once per epoch, and at least `prunings` times if it has as many steps. From
    "scratch", the first point starts from random weights.
    """

    solver: Solver = "hspg"
    strength: Positive = 1e-3
    solving: Share = SOFT
    drops: tuple[Share, ...] = (0.4, 0.7, 0.9)
    first: Share = 0.2
    prunings: Count = 20
    sparsities: tuple[Share, ...] = (0.8, 0.9, 0.95, 0.98, 0.99)
    start: Literal["pretrained", "scratch"] = "pretrained"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_order("sparsities", self.sparsities)

    @property
    def hard(self) -> float:
        return 1 - self.solving

    def operating_points(self, budget: Budget) -> list[float]:
        """Training epochs of each target or, with the solver "obprox", of each sparsity."""
        points = self.sparsities if self.solver == "obprox" else self.targets
        return epochs_per_point(budget, len(points), self.epochs)
