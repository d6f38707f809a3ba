"""Channels by a solver: training with a penalty on whole channels, until enough of them are zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from benchmarks.training import fit
from benchmarks.training.scratch import initialise
from methods.families.structured import Keep, Prunable, highest
from methods.families.structured.allocation import remove
from methods.families.structured.channels import counts
from methods.families.structured.curve import Choose
from methods.interface import Json, Run, Task
from methods.sparse_opt.cap import Cap
from methods.sparse_opt.config import Config
from methods.sparse_opt.halfspace import HSPG, GroupProxSG
from methods.sparse_opt.stages import planned
from methods.sparse_opt.units import flat, sizes, units


def solved(task: Task, config: Config, run: Run) -> Choose:
    """For `curve`: minimise the penalised loss over the dense network; what is not zero then is kept.

    If the multiply-accumulates are still above the goal, the channels with the smallest root mean squares are
    removed, too.
    """

    def choose(dense: nn.Module, prunable: Prunable, keep: Keep, goal: float) -> tuple[Keep, Mapping[str, Json]]:
        if config.start == "scratch" and all(mask.all() for mask in keep.values()):
            initialise(dense, run.generator("init"))
        recipe, first, every = planned(task, config, run)
        cap = Cap(prunable.groups, prunable.cost, goal, run.generator("order", f"{goal:.0f}"))

        def optimise(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
            known = units(dense, prunable.groups)
            alive = flat(prunable.groups, keep)
            if config.solver == "prox":
                return GroupProxSG(groups, known, config.strength, alive, cap)
            return HSPG(groups, known, config.strength, alive, first, every, cap)

        fit(dense, task, run, replace(recipe, optimiser=optimise), f"{config.solver}, {goal:.0f} MACs")
        return _chosen(dense, prunable, keep, goal)

    return choose


def _chosen(
    dense: nn.Module, prunable: Prunable, keep: Keep, goal: float
) -> tuple[dict[str, torch.Tensor], dict[str, Json]]:
    """The channels to keep, and notes: `solved` is the share of the MACs to remove that the solver's zeros remove.

    It is 1 if there is nothing to remove.
    """
    found = sizes(dense, prunable.groups)
    alive = {name: mask & (found[name] > 0).cpu() for name, mask in keep.items()}
    alive = {name: mask if mask.any() else torch.arange(len(mask)) == 0 for name, mask in alive.items()}
    ranked = sorted(
        (float(found[name][place]), name) for name, mask in alive.items() for place in mask.nonzero()[:, 0].tolist()
    )
    last = dict.fromkeys(alive, 0)
    order = []
    for _, name in ranked:  # all but the largest of each group
        last[name] += 1
        order += [name] if last[name] < int(alive[name].sum()) else []
    left = highest(found, alive, remove(prunable, alive, goal, order))
    before = prunable.macs(keep)
    table: Json = [[group.name, group.size, int(left[group.name].sum())] for group in prunable.groups]
    zeros = sum(counts(keep).values()) - sum(counts(alive).values())
    share = (before - prunable.macs(alive)) / (before - goal) if before > goal else 1.0
    return left, {"layers": table, "zeros": zeros, "solved": round(share, 4)}
