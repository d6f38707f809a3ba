"""Removes the filters with the smallest L1 norms; each layer loses the same share.

H. Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, without the paper's choice of layers by sensitivity.
The share is the one that removes a given part of the multiply-accumulates. The narrower network is trained if the budget
allows; otherwise BatchNorm is corrected on unlabelled images. Its weights are stored on a uniform grid with entropy coding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from methods.families.structured import Keep, Prunable, Settings, curve, filters, same_share
from methods.interface import Card, Compressed, Json, Run, Task

CARD = Card(
    key="l1_filter",
    title="Pruning Filters for Efficient ConvNets",
    authors=("Hao Li", "Asim Kadav", "Igor Durdanovic", "Hanan Samet", "Hans Peter Graf"),
    venue="ICLR",
    year=2017,
    families=("structured pruning",),
    fidelity="baseline",
    budgets=("post-training", "short", "paper"),
    arxiv="1608.08710",
)


@dataclass(frozen=True)
class Config(Settings):
    """The settings of all structured methods."""


def unsupported(task: Task, config: Config) -> str | None:
    """None. `compress` raises MethodError if a network's channels can't be pruned (`families.structured.analyse`)."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per share of MACs removed, from low to high."""

    def choose(dense: nn.Module, prunable: Prunable, keep: Keep, goal: float) -> tuple[Keep, Mapping[str, Json]]:
        return same_share(prunable, keep, goal, lambda group: filters(dense, group).abs().sum(1)), {}

    return curve(task, config, run, choose)
