"""A narrower network of the same shape, trained from scratch: whether pruning was worth the dense network.

Z. Liu et al., Rethinking the Value of Network Pruning, ICLR 2019, for layers that all lose the same share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.training.scratch import initialise
from methods.families.limits import Positive
from methods.families.structured import Keep, Prunable, Settings, curve, uniform
from methods.interface import Card, Compressed, Json, Run, Task

CARD = Card(
    key="uniform_width",
    title="Uniformly narrower networks from scratch",
    authors=("Zhuang Liu", "Mingjie Sun", "Tinghui Zhou", "Gao Huang", "Trevor Darrell"),
    venue="ICLR",
    year=2019,
    families=("structured pruning",),
    fidelity="baseline",
    budgets=("short", "paper"),
    arxiv="1810.05270",
    code="https://github.com/Eric-mingjie/rethinking-network-pruning",
)


@dataclass(frozen=True)
class Config(Settings):
    """What every structured method is run with; a learning rate for random weights."""

    lr: Positive = 0.1


def unsupported(task: Task, config: Config) -> str | None:
    """Any convolutional network will do."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per share of MACs removed."""

    def choose(dense: nn.Module, prunable: Prunable, keep: Keep, goal: float) -> tuple[Keep, Mapping[str, Json]]:
        initialise(dense, run.generator("init", f"{goal:.0f}"))
        return uniform(prunable, keep, goal, lambda group: -torch.arange(group.size)), {}

    return curve(task, config, run, choose)
