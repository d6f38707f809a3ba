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
    """Gradient matrices are summed over `batches` micro-batches of `size` images, with targets drawn or the labels.

    `rank` and `threshold` estimate how many filters a layer needs, and so the maximum redundancy. `protected` is the
    threshold of the floors that no layer is pruned below: a target above the redundancy that it leaves is refused. A step
    removes up to `share` of a layer, in an `order` by the inverse or by pivots; it is undone if the network then is worse
    than it was at its best by more than `tolerance`: a share of equal decisions, or nats of loss, as `judge` says. Above
    0, `blocks` lets whole residual blocks go first, whatever their floors, as long as the verdict at each target falls by
    no more than that in all.
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
            raise ValueError("where has to be inner or streams: a branch of a stream has no readers of its own")
