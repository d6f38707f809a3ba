"""Removes random filters; each layer loses the same share. A reference for all pruning criteria.

A criterion is worth what it gains over this choice: the narrower network, its training and its storage are the same as those
of `l1_filter`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.families.structured import Group, Keep, Prunable, Settings, curve, same_share
from methods.interface import Card, Compressed, Json, Run, Task

CARD = Card(
    key="random_filter",
    title="Random filter pruning",
    authors=(),
    venue="",
    year=2017,
    families=("structured pruning",),
    fidelity="baseline",
    budgets=("post-training", "short", "paper"),
)


@dataclass(frozen=True)
class Config(Settings):
    """The settings of all structured methods."""

    @property
    def random(self) -> bool:
        """The choice depends on the seed with and without training."""
        return True


def unsupported(task: Task, config: Config) -> str | None:
    """None. `compress` raises MethodError if a network's channels can't be pruned (`families.structured.analyse`)."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per share of MACs removed, from low to high."""

    def choose(dense: nn.Module, prunable: Prunable, keep: Keep, goal: float) -> tuple[Keep, Mapping[str, Json]]:
        def scores(group: Group) -> Tensor:
            return torch.rand(group.size, generator=run.generator("filters", group.name))

        return same_share(prunable, keep, goal, scores), {}

    return curve(task, config, run, choose)
