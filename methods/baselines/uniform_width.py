"""A uniformly narrower network, trained from scratch: tests whether pruning a trained dense network has a benefit.

Z. Liu et al., Rethinking the Value of Network Pruning, ICLR 2019, with the same share removed from all layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.training.scratch import initialise
from methods.families.limits import Positive
from methods.families.structured import Keep, Prunable, Settings, curve, same_share
from methods.interface import Card, Compressed, Json, Run, Task

CARD = Card(
    key="uniform_width",
    title="Uniformly narrower networks from scratch",
    authors=("Zhuang Liu", "Mingjie Sun", "Tinghui Zhou", "Gao Huang", "Trevor Darrell"),
    venue="ICLR",
    year=2019,
    families=("width scaling",),
    fidelity="baseline",
    budgets=("short", "paper"),
    arxiv="1810.05270",
    code="https://github.com/Eric-mingjie/rethinking-network-pruning",
)


@dataclass(frozen=True)
class Config(Settings):
    """The settings of all structured methods, with a learning rate for random weights."""

    lr: Positive = 0.1


def unsupported(task: Task, config: Config) -> str | None:
    """None. `compress` raises MethodError if a network's channels can't be pruned (`families.structured.analyse`)."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per share of MACs removed, from low to high."""

    def choose(dense: nn.Module, prunable: Prunable, keep: Keep, goal: float) -> tuple[Keep, Mapping[str, Json]]:
        initialise(dense, run.generator("init", f"{goal:.0f}"))
        return same_share(prunable, keep, goal, lambda group: -torch.arange(group.size)), {}

    return curve(task, config, run, choose)
