"""The settings of single-path bit sharing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from methods.families.budget import epochs_per_point
from methods.families.limits import Count, NotNegative, Positive, Ratio, Share, check_order
from methods.families.quantised_activations import Start
from methods.interface import Budget

SEARCH = 0.25  # of a point's epochs, where the budget says how many there are


@dataclass(frozen=True)
class Config:
    """`targets` are the bit operations of the uncompressed network divided by those that may remain, one operating point each.

    The `variant` chooses bits and prunes filters ("both"), chooses bits alone ("quantise") or prunes alone ("prune", at
    `prune_targets`). Filters are pruned in groups of `group`, at most the share `most` of a layer's. The loss has `penalty`
    times the logarithm of the bit operations while these are above the target. Clip ranges `start` at 1 or at least squared
    error.

    At the `paper` budget the search takes `search_epochs` at `search_lr`, which is also that of the thresholds, and training
    of the chosen network takes `epochs` from `lr`, divided by 10 at `milestones` or, without any, along a cosine. With fewer
    epochs thresholds learn faster, in proportion. The budget's learning rate replaces those of weights.
    """

    targets: tuple[Ratio, ...] = (20.0, 40.0, 66.3, 100.0)
    prune_targets: tuple[Ratio, ...] = (1.2, 1.5, 1.8)
    variant: Literal["both", "quantise", "prune"] = "both"
    group: Count = 4
    most: Share = 0.5
    penalty: NotNegative = 0.1
    start: Start = "one"
    search_lr: Positive = 0.001
    search_epochs: Count = 30
    lr: Positive = 0.1
    batch: Count = 128
    weight_decay: NotNegative = 1e-4
    epochs: Count = 200
    milestones: tuple[Count, ...] = (80, 120)

    def __post_init__(self) -> None:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones have to rise")
        check_order("targets", self.targets)
        check_order("prune_targets", self.prune_targets)

    @property
    def points(self) -> tuple[float, ...]:
        """The targets of the variant."""
        return self.prune_targets if self.variant == "prune" else self.targets

    def operating_points(self, budget: Budget) -> list[float]:
        return epochs_per_point(budget, len(self.points), self.search_epochs + self.epochs)

    def search(self, budget: Budget, epochs: float) -> float:
        """How many of a point's epochs the search takes."""
        return float(self.search_epochs) if budget.epochs is None else SEARCH * epochs
