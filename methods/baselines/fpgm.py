"""Removes the filters nearest to the geometric median of their layer; each layer loses the same share.

Y. He et al., Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration, CVPR 2019. The
filters are chosen during training, as in the official code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.families.structured import Keep, Prunable, curve, filters, same_share
from methods.families.structured.soft import SoftSettings, softly
from methods.interface import Card, Compressed, Run, Task

CARD = Card(
    key="fpgm",
    title="Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration",
    authors=("Yang He", "Ping Liu", "Ziwei Wang", "Zhilan Hu", "Yi Yang"),
    venue="CVPR",
    year=2019,
    families=("structured pruning",),
    fidelity="baseline",
    budgets=("short", "paper"),
    arxiv="1811.00250",
    code="https://github.com/he-y/filter-pruning-geometric-median",
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
        return same_share(prunable, keep, goal, lambda group: distances(filters(network, group), keep[group.name]))

    return curve(task, config, run, softly(task, config, run, choose))


def distances(rows: Tensor, kept: Tensor) -> Tensor:
    """For each filter the sum of distances to all kept filters; the smallest is nearest to the geometric median (eq. 6)."""
    return torch.cdist(rows, rows[kept]).sum(1)
