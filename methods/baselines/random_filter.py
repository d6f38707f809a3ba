"""Filters drawn at random go, the same share of each layer: what any choice of filters has to beat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.families.structured import Group, Keep, Prunable, Settings, curve, uniform
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
    """What every structured method is run with."""

    @property
    def random(self) -> bool:
        """The choice depends on the seed with and without training."""
        return True


def unsupported(task: Task, config: Config) -> str | None:
    """Any convolutional network will do."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per share of MACs removed."""

    def choose(dense: nn.Module, prunable: Prunable, keep: Keep, goal: float) -> tuple[Keep, Mapping[str, Json]]:
        def scores(group: Group) -> Tensor:
            return torch.rand(group.size, generator=run.generator("filters", group.name))

        return uniform(prunable, keep, goal, scores), {}

    return curve(task, config, run, choose)
