"""The settings of collaborative compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from methods.cc.steps import Units
from methods.families.budget import epochs_per_point
from methods.families.finishing import Storage
from methods.families.limits import Bits, Count, Images, NotNegative, Positive, Share, check_order
from methods.interface import Budget


@dataclass(frozen=True)
class Config:
    """`targets` are shares of the network's multiply-accumulates to remove, one operating point each, from the reference.

    `units` are removed: both kinds, or one alone. A score is the loss plus `gamma` times the expected loss of the next
    removal; with `forward` "frozen", the components of the present matrix stand for those without a channel, and layers with
    more than 100 units are decomposed again only after several channels (1 % of the units), which takes a small part of the
    time. Gradients are the mean over the training images (`images`; 0: all), without training over
    `recalibrate` unlabelled images with the network's own predictions as labels.

    Fine-tuning at the `paper` budget takes `epochs` from `lr`, divided by 10 at `milestones`. `storage`, `bits` and
    `recalibrate` are as in `families.structured.Settings`.
    """

    targets: tuple[Share, ...] = (0.3, 0.5, 0.7)
    units: Units = "both"
    gamma: NotNegative = 0.9
    forward: Literal["exact", "frozen"] = "exact"
    images: Images = 0
    lr: Positive = 0.1
    batch: Count = 128
    weight_decay: NotNegative = 1e-4
    epochs: Count = 300
    milestones: tuple[Count, ...] = (150, 225)
    recalibrate: Images = 500
    storage: Storage = "uniform"
    bits: Bits = 8

    def __post_init__(self) -> None:
        check_order("targets", self.targets)
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones have to rise")
        if self.storage == "rdoq" and not self.recalibrate:
            raise ValueError("storage 'rdoq' needs images: set recalibrate")

    def operating_points(self, budget: Budget) -> list[float]:
        return epochs_per_point(budget, len(self.targets), self.epochs)
