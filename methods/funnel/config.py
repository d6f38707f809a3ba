"""The settings of funnel regularisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from methods.families.budget import epochs_per_point
from methods.families.limits import Bits, Count, Positive, Share, check_order
from methods.funnel.closing import Variant
from methods.interface import Budget

WARM, CLOSING = 0.1, 0.5  # shares of a point's epochs before the penalty, and with it
SLOW = 0.1  # factor of the learning rate before the penalty


@dataclass(frozen=True)
class Config:
    """`targets` are shares of the dense network's multiply-accumulates to remove, one point each, all from the reference.

    The penalty is `strength` times a sum of funnels of the `variant`: with widths relative to each gate's first value, or with
    one width that is annealed (`closing`). Gates close without it where the target would be missed. The first `gates` of a
    Tucker-2 chain are 1, as published, or balanced with those of the core (`factors`). `lr` is the learning rate, of the gates
    ten times as much, and `batch` the items of a step; after truncation, these are `finetune_lr` and `finetune_batch`. The
    budget's learning rate replaces both; `epochs` are those of a point at the `paper` budget. Weights are stored on a uniform
    grid of 2^bits − 1 levels per tensor with entropy coding, and are trained for that in the end.
    """

    targets: tuple[Share, ...] = (0.3, 0.5, 0.7)
    variant: Variant = "relative"
    strength: Positive = 0.01
    gates: Literal["published", "balanced"] = "published"
    lr: Positive = 0.001
    batch: Count = 128
    finetune_lr: Positive = 0.001
    finetune_batch: Count = 128
    epochs: Count = 200
    bits: Bits = 8

    def __post_init__(self) -> None:
        check_order("targets", self.targets)

    def operating_points(self, budget: Budget) -> list[float]:
        """Training epochs of each target."""
        return epochs_per_point(budget, len(self.targets), self.epochs)
