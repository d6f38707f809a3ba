"""Sets the filters with the smallest L2 norms to zero once per epoch while all filters are trained; equal shares per layer.

Y. He et al., Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks, IJCAI 2018. Unlike in
the paper, filters are removed permanently after half of the epochs, because the other methods also train the narrower network.
If that half is shorter than an epoch, filters are set to zero only at its end, unless `prunings` is larger. With about thirty
steps between two prunings the method collapses: with BatchNorm, zeroed filters grow back as noise, and other filters
are removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from methods.families.structured import Keep, Prunable, curve, filters, same_share
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
    """The settings of methods that prune during training."""


def unsupported(task: Task, config: Config) -> str | None:
    """None. `compress` raises MethodError if a network's channels can't be pruned (`families.structured.analyse`)."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per share of MACs removed, from low to high."""

    def choose(network: nn.Module, prunable: Prunable, keep: Keep, goal: float) -> Keep:
        return same_share(prunable, keep, goal, lambda group: filters(network, group).norm(dim=1))

    return curve(task, config, run, softly(task, config, run, choose))
