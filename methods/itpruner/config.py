"""The settings of ITPruner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from methods.families.budget import epochs_per_point
from methods.families.limits import Count, Positive, check_order
from methods.families.structured import Settings
from methods.interface import Budget
from methods.itpruner.solve import Solve

Macs: TypeAlias = Annotated[float, Meta(gt=0, le=1e15)]
Floor: TypeAlias = Annotated[float, Meta(ge=0, lt=1)]


@dataclass(frozen=True)
class Config(Settings):
    """`structure` "channels" removes channels of the trained network, those of `where`, by L1 norm.

    "blocks" is the paper's structure for CIFAR ResNets: each block has its own width, the network is trained from scratch, and
    `allowed` may give the costs T as the paper counts them, in descending order, instead of `targets`. `widths`, one tuple
    for each point, are used instead of a solve.

    α = exp(−β t) comes from the nHSIC of `images` unlabelled images, with t divided by its sum if `normalised`. `solve`:
    "published" is the official code's, with `beta`; "scaled" has t in units of its mean, `relative_beta`, α of at most 1
    (`importance.relative`) and shares of at least `floor`; "projection" and "uniform" need no data (`solve.shares`).
    """

    structure: Literal["channels", "blocks"] = "channels"
    solve: Solve = "published"
    images: Count = 512
    beta: Positive = 500.0
    relative_beta: Positive = 1.0
    normalised: bool = True
    floor: Floor = 0.1
    allowed: tuple[Macs, ...] = ()
    widths: tuple[tuple[Count, ...], ...] = ()
    epochs: Count = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.structure == "channels" and (self.allowed or self.widths):
            raise ValueError("allowed and widths belong to structure blocks: use targets for channels")
        check_order("allowed", self.allowed, rising=False, empty=True)
        if self.widths and len(self.widths) != len(self.allowed or self.targets):
            raise ValueError("widths needs one tuple for each operating point")

    def operating_points(self, budget: Budget) -> list[float]:
        return epochs_per_point(budget, len(self.allowed or self.targets), self.epochs)

    @property
    def needs_data(self) -> bool:
        return self.solve in ("published", "scaled") and not self.widths
