"""The settings of hierarchical pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from methods.families.limits import Count, NotNegative, Positive, Share, ShareOrAll
from methods.families.structured import Settings
from methods.hierarchical.gradients import Order, Rank

Verdict: TypeAlias = Literal["decisions", "loss"]


@dataclass(frozen=True)
class Config(Settings):
    """Gradient matrices are summed over `batches` micro-batches of `size` images, with `drawn` targets or the labels.

    `rank` and `threshold` estimate how many filters a layer needs, and thereby the maximum redundancy. `protected` is the
    threshold that gives each layer's floor, the smallest number of filters; a target beyond the floors is an error. A step
    removes up to `share` of a layer, in an `order` by the inverse or by pivots. It is undone if the network is worse than
    the best one so far by more than `tolerance`: a share of equal predictions or nats of loss, depending on `judge`. If
    `blocks` is above 0, whole residual blocks are removed first, regardless of floors, as long as the verdict at each
    target falls by at most `blocks` in total.
    """

    batches: Count = 64
    size: Count = 32
    drawn: Literal["drawn", "labels"] = "drawn"
    rank: Rank = "energy"
    threshold: Share = 0.01
    protected: Share = 0.2
    share: ShareOrAll = 0.125
    tolerance: Positive = 0.01
    compensation: bool = True
    order: Order = "surgeon"
    judge: Verdict = "decisions"
    blocks: NotNegative = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.where == "branches":
            raise ValueError("where has to be inner or streams: no layer reads only a branch of a stream")
