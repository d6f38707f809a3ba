"""The filters with the smallest L2 norm are set to zero once an epoch and go on training; the same share of each layer.

Y. He et al., Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks, IJCAI 2018. Unlike there, filters are
removed for good when half of the epochs have passed, for the other methods train what is left, too. Where that half is less
than an epoch, filters are set to zero at its end alone, unless `prunings` says otherwise: with some thirty steps between two
prunings it collapses, because behind BatchNorm zeros grow back to their old size as noise, and then others go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from methods.families.structured import Keep, Prunable, curve, filters, uniform
from methods.families.structured.soft import SoftSettings, softly
from methods.interface import Card, Compressed, Run, Task

CARD = Card(
    key="sfp",
    title="Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks",
    authors=("Yang He", "Guoliang Kang", "Xuanyi Dong", "Yanwei Fu", "Yi Yang"),
    venue="IJCAI",
    year=2018,
    families=("structured pruning",),
    fidelity="baseline",
    budgets=("short", "paper"),
    arxiv="1808.06866",
    code="https://github.com/he-y/soft-filter-pruning",
)


@dataclass(frozen=True)
class Config(SoftSettings):
    """What every method is run with that prunes while it trains."""


def unsupported(task: Task, config: Config) -> str | None:
    """Any convolutional network will do."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per share of MACs removed."""

    def choose(network: nn.Module, prunable: Prunable, keep: Keep, goal: float) -> Keep:
        return uniform(prunable, keep, goal, lambda group: filters(network, group).norm(dim=1))

    return curve(task, config, run, softly(task, config, run, choose))
