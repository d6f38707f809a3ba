"""Joint matrix decomposition: LJSVD, RJSVD-1, RJSVD-2 and Bi-JSVD (Chen et al., Neurocomputing 2023).

The convolutions at one position of a stage's blocks are unfolded to matrices and factorised jointly. They share one
factor, a single tensor, so that the rank at equal size is nearly twice as high.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta
from torch import nn

from methods.families import lowrank
from methods.families.limits import Count
from methods.families.lowrank import Settings, curve, groups
from methods.families.slim import Slim
from methods.interface import Card, Compressed, Run, Task
from methods.jsvd.shares import Scheme, factors, shares, structure

CARD = Card(
    key="jsvd",
    title="Joint Matrix Decomposition for Deep Convolutional Neural Networks Compression",
    authors=("Shaowu Chen", "Jiahao Zhou", "Weize Sun", "Lei Huang"),
    venue="Neurocomputing 516",
    year=2023,
    families=("low-rank factorisation", "weight sharing"),
    fidelity="paper",
    budgets=("post-training", "short", "paper"),
    arxiv="2107.04386",
    code="https://github.com/ShaowuChen/JointSVD",
)


@dataclass(frozen=True)
class Config(Settings):
    """`scheme` shares the left factor (ljsvd), the right one (rjsvd1 with the odd first layer, rjsvd2 without), or both.

    `p` is the left-shared fraction of Bi-JSVD's rank, `sweeps` the number of alternations (K in the paper).
    """

    scheme: Scheme = "ljsvd"
    p: Annotated[float, Meta(ge=0, le=1)] = 0.5
    sweeps: Count = 30


def unsupported(task: Task, config: Config) -> str | None:
    """Needs the repeated blocks of a ResNet; `methods.families.lowrank.layers` defines them."""
    return lowrank.unsupported(task)


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per rate; ranks are chosen for the same size as separate SVDs at that rate."""

    def decompose(network: nn.Module, rate: float) -> Slim:
        found = shares(groups(network), config.scheme, rate, config.p)
        return Slim(*structure(found), factors(found, config.sweeps))

    return curve(task, config, run, decompose)
