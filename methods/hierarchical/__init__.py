"""Hierarchical pruning (Zhou et al. 2022): gradient matrices estimate how many filters a layer needs.

In the gradient matrix of a layer, the row of a channel holds the gradients of all weights that read it. A layer needs as many
filters as its Gram matrix has eigenvalues that together make 99 % of their sum. A step selects the layer in which removal costs
least per multiply-accumulate saved, then its filters, and adjusts the weights that read the others. It is undone if the
predictions on unlabelled validation images change too much.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from benchmarks.errors import MethodError
from benchmarks.evaluation.scoring import total_score
from benchmarks.training.layout import channels_last
from methods.families.structured import Keep, Prunable, analyse, curve
from methods.hierarchical.config import PROTECTED, Config
from methods.hierarchical.gradients import grams, numerical_rank, redundancy
from methods.hierarchical.pruning import State, prune
from methods.interface import Card, Compressed, Json, Run, Task

CARD = Card(
    key="hierarchical",
    title="Neural Network Compression via Effective Filter Analysis and Hierarchical Pruning",
    authors=("Ziqi Zhou", "Li Lian", "Yilong Yin", "Ze Wang"),
    venue="arXiv",
    year=2022,
    families=("structured pruning",),
    fidelity="reconstruction",
    budgets=("post-training", "short", "paper"),
    arxiv="2206.03596",
    estimate="redundancy_macs",
    note="Only the abstract and a summary of the introduction were available. Every equation and setting is this module's.",
)


def unsupported(task: Task, config: Config) -> str | None:
    """None. `compress` raises MethodError if a network's channels can't be pruned (`families.structured.analyse`)."""
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per share of MACs removed, with a table of layers in its notes; raises MethodError if a target is too high."""

    def measured(network: nn.Module, prunable: Prunable, keep: Keep) -> dict[str, Tensor]:
        alive = [group for group in prunable.groups if keep[group.name].any()]
        return grams(network, alive, task, run, config.batches, config.size, config.drawn)

    if run.budget.name == "post-training" and config.drawn == "labels":
        msg = "drawn labels need labels, which a budget without training does not provide: use another budget"
        raise MethodError(msg)
    whole = config.blocks > 0
    first = analyse(task, config.where, whole)
    known = measured(task.reference(), first, first.all_kept())
    needed = {name: numerical_rank(gram, config.rank, config.threshold) for name, gram in known.items()}
    floors = {name: numerical_rank(gram, "energy", PROTECTED) for name, gram in known.items()}
    dense_macs, least = first.macs(first.all_kept()), first.cost.macs(floors)
    if least > first.goal(config.targets[-1]):
        msg = (
            f"{config.targets[-1]:.0%} of the MACs of {task.network} are to be removed, but its gradient matrices allow "
            f"{1 - least / dense_macs:.1%}: ask for less"
        )
        raise MethodError(msg)
    estimate = estimated(task.reference(), first, needed)

    def choose(dense: nn.Module, prunable: Prunable, keep: Keep, goal: float) -> tuple[Keep, Mapping[str, Json]]:
        start, passes = time.perf_counter(), 0

        def again(network: nn.Module, keep: Keep) -> dict[str, Tensor]:
            nonlocal passes
            passes += 1
            return measured(network, prunable, keep)

        untouched = all(mask.all() for mask in keep.values())
        found = known if untouched else again(dense, keep)
        traces = {name: float(gram.trace()) for name, gram in found.items()}
        state = State(dense, dict(keep), found, config.tolerance, set(), traces)
        before = total_score(dense.to(run.device), task.validation, task)
        channels_last(dense.to("cpu"))
        prune(state, prunable, goal, floors, config, again, run.device)
        dense.load_state_dict(state.dense.state_dict())
        after = total_score(prunable.narrow(dense, state.keep)[0].to(run.device), task.validation, task)
        table = [
            [group.name, group.size, needed[group.name], floors[group.name], int(state.keep[group.name].sum())]
            for group in prunable.groups
        ]
        run.progress("layer, filters, rank, floor, kept:")
        for line in table:
            run.progress(f"  {' '.join(map(str, line))}")
        return state.keep, {
            "layers": table,
            **estimate,
            "steps": state.steps,
            "undone": state.undone,
            "tolerance": state.tolerance,
            "agreement": round(state.verdict, 4),
            **({"blocks_dropped": state.blocks} if config.blocks else {}),
            "validation_before": round(before / len(task.validation), 4),
            "validation_pruned": round(after / len(task.validation), 4),
            "gradient_passes": passes + untouched,
            "seconds": round(time.perf_counter() - start, 1),
        }

    return curve(task, config, run, choose, whole)


def estimated(reference: nn.Module, prunable: Prunable, needed: Mapping[str, int]) -> dict[str, Json]:
    """The estimated maximum redundancy as a share of filters, of parameters and of multiply-accumulates."""
    keep = {group.name: torch.arange(group.size) < needed[group.name] for group in prunable.groups}
    narrow = prunable.narrow(reference, keep)[0]
    sizes = [sum(p.numel() for p in network.parameters()) for network in (narrow, reference)]
    return {
        "redundancy": round(redundancy(needed, prunable.groups), 4),
        "redundancy_params": round(1 - sizes[0] / sizes[1], 4),
        "redundancy_macs": round(1 - prunable.cost.macs(needed) / prunable.macs(prunable.all_kept()), 4),
    }
