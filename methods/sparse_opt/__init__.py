"""Sparse optimisation (Chen et al. 2020): a regularised training problem whose solvers set weights or channels to zero.

OBProx-SG has single weights as zeros, HSPG whole channels. Both take a few proximal or subgradient steps, then steps in which
zeros are final: a value becomes zero where its sign would change, and a channel where it would leave its half-space. Zero
channels are removed without changing the network's function. The other channels, or weights, are trained without the penalty.
"""

from __future__ import annotations

from collections.abc import Iterator

from methods.families.structured import curve
from methods.interface import Card, Compressed, Run, Task
from methods.sparse_opt import weights
from methods.sparse_opt.channels import solved
from methods.sparse_opt.config import Config

CARD = Card(
    key="sparse_opt",
    title="Neural Network Compression Via Sparse Optimization",
    authors=("Tianyi Chen", "Bo Ji", "Yixin Shi", "Tianyu Ding", "Biyi Fang", "Sheng Yi", "Xiao Tu"),
    venue="arXiv",
    year=2020,
    families=("structured pruning", "unstructured pruning"),
    fidelity="reconstruction",
    budgets=("short", "paper"),
    arxiv="2011.04868",
    code="https://github.com/tianyic/only_train_once",
    note=(
        "Only the abstract and the beginning of the introduction were available. The solvers are those of the authors' earlier "
        "papers and public code (obproxsg, only_train_once); how they are put together is this module's."
    ),
)


def unsupported(task: Task, config: Config) -> str | None:
    """None. `compress` raises MethodError if a network's channels can't be pruned (`families.structured.analyse`)."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per share of MACs removed or, with the solver "obprox", per share of weights set to zero."""
    if config.solver == "obprox":
        return weights.curve(task, config, run)
    return curve(task, config, run, solved(task, config, run))
