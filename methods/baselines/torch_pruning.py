"""Removes groups of coupled channels by torch-pruning's importance, over the whole network including residual streams.

G. Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023: the norm over all weights of a group of coupled channels,
without its sparse training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch_pruning
from torch import nn

from methods.families.structured import Keep, Prunable, Settings, curve, highest, remove
from methods.families.structured.channels import Where, dependencies
from methods.interface import Card, Compressed, Json, Run, Task

CARD = Card(
    key="torch_pruning",
    title="DepGraph: Towards Any Structural Pruning",
    authors=("Gongfan Fang", "Xinyin Ma", "Mingli Song", "Michael Bi Mi", "Xinchao Wang"),
    venue="CVPR",
    year=2023,
    families=("structured pruning",),
    fidelity="baseline",
    budgets=("post-training", "short", "paper"),
    arxiv="2301.12900",
    code="https://github.com/VainF/Torch-Pruning",
)


MOST = 0.9


@dataclass(frozen=True)
class Config(Settings):
    """The settings of all structured methods; at most the share MOST of a group is removed."""

    where: Where = "streams"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.where == "branches":
            raise ValueError("where has to be inner or streams: the library scores streams as a whole")


def unsupported(task: Task, config: Config) -> str | None:
    """None. `compress` raises MethodError if a network's channels can't be pruned (`families.structured.analyse`)."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per share of MACs removed, from low to high."""

    example = task.prepare(task.calibration(1).inputs)

    def choose(dense: nn.Module, prunable: Prunable, keep: Keep, goal: float) -> tuple[Keep, Mapping[str, Json]]:
        importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
        names = {group.name for group in prunable.groups}
        scores = {
            group.name: importance(theirs) for group, theirs in dependencies(dense, example) if group.name in names
        }
        ranked = []
        for group in prunable.groups:
            going = torch.where(keep[group.name], scores[group.name], torch.inf).sort().values
            left = int(keep[group.name].sum()) - max(1, math.ceil((1 - MOST) * group.size))
            ranked += [(float(score), group.name) for score in going[: max(0, left)]]
        order = [name for _, name in sorted(ranked, key=lambda removal: removal[0])]
        return highest(scores, keep, remove(prunable, keep, goal, order)), {}

    return curve(task, config, run, choose)
