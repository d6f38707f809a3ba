"""The settings of hierarchical pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from methods.families.limits import Count, NotNegative, Share, ShareOrAll
from methods.families.structured import Settings
from methods.hierarchical.gradients import Order, Rank

PROTECTED = 0.2  # each layer keeps the rank at which this share of the energy is lost


@dataclass(frozen=True)
class Config(Settings):
    """Gradient matrices are summed over `batches` micro-batches of `size` images, with `drawn` targets or the labels.

    `rank` and `threshold` estimate how many filters a layer needs, and thereby the maximum redundancy. A layer keeps at
    least its rank at the threshold PROTECTED; a target beyond these floors is an error. A step removes up to `share` of a
    layer, in the `order` of inverse or pivots. It is undone if the share of predictions equal to the reference's
    falls below the largest share so far by more than `tolerance`. If `blocks` is above 0, whole residual blocks are removed
    first, regardless of floors, as long as this share falls by at most `blocks` in total at each target.
    """

    batches: Count = 64
    size: Count = 32
    drawn: Literal["drawn", "labels"] = "drawn"
    rank: Rank = "energy"
    threshold: Share = 0.01
    share: ShareOrAll = 0.125
    tolerance: ShareOrAll = 0.01
    compensation: bool = True
    order: Order = "surgeon"
    blocks: NotNegative = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.where == "branches":
            raise ValueError("where has to be inner or streams: no layer reads only a branch of a stream")
