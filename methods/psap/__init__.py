"""PSAP-R: a layer's weight sparsity sets the share of its filters to remove, and gradients restore important filters.

Based on the abstract of Li & Zhao (2023). The sparsity of a layer is the share of its weights below one threshold for the whole
network. While the network is trained, the filters with the smallest norms are set to zero again and again. A few batches
measure how much each of them would reduce the loss; those far above the median are restored, and protected for two steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from benchmarks.training.scratch import initialise
from methods.families.structured import Keep, Prunable, curve
from methods.families.structured.soft import soft_recipe, train_softly
from methods.interface import Card, Compressed, Json, Run, Task
from methods.psap.config import Config
from methods.psap.protective import Protective

CARD = Card(
    key="psap",
    title="Protective Self-Adaptive Pruning to Better Compress DNNs",
    authors=("Liang Li", "Pengfei Zhao"),
    venue="arXiv",
    year=2023,
    families=("structured pruning",),
    fidelity="reconstruction",
    budgets=("short", "paper"),
    arxiv="2303.11881",
    note="Only the abstract and a secondary overview were available. Every equation and setting is this module's (PSAP-R).",
)


def unsupported(task: Task, config: Config) -> str | None:
    """None. `compress` raises MethodError if a network's channels can't be pruned (`families.structured.analyse`)."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per share of MACs removed; its notes are the filters kept per layer and the number of restored filters."""

    def choose(dense: nn.Module, prunable: Prunable, keep: Keep, goal: float) -> tuple[Keep, Mapping[str, Json]]:
        if config.start == "scratch" and all(mask.all() for mask in keep.values()):
            initialise(dense, run.generator("init"))
        recipe, steps, every = soft_recipe(task, config, run)
        pruning = Protective(dense, prunable, keep, goal, config, task, run, steps, every)
        train_softly(dense, prunable, keep, run, recipe, f"soft, {goal:.0f} MACs", pruning)
        left = {name: ~mask for name, mask in pruning.zeroed.items()}
        table = [[group.name, group.size, int(left[group.name].sum())] for group in prunable.groups]
        return left, {"layers": table, "restored": pruning.restored}

    return curve(task, config, run, choose)
