"""Hierarchical pruning: gradient matrices say how many filters a layer needs; layers are chosen first, then their filters.

Zhou et al., Neural Network Compression via Effective Filter Analysis and Hierarchical Pruning (2022).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.errors import MethodError
from benchmarks.structured import Keep, Prunable, Settings, analyse, curve, refused
from benchmarks.training import correct_predictions
from methods.hierarchical.gradients import Rank, grams, numerical_rank, redundancy
from methods.hierarchical.pruning import State, prune
from methods.interface import Card, Compressed, Json, Run, Task

CARD = Card(
    key="hierarchical",
    title="Neural Network Compression via Effective Filter Analysis and Hierarchical Pruning",
    authors=("Ziqi Zhou", "Li Lian", "Yilong Yin", "Ze Wang"),
    venue="arXiv",
    year=2022,
    families=("structured pruning",),
    faithful="reconstruction",
    budgets=("post-training", "short", "paper"),
    arxiv="2206.03596",
    note="Only the abstract and a summary of the introduction were available: every equation and setting is this module's.",
)


@dataclass(frozen=True)
class Config(Settings):
    """Gradient matrices are summed over `batches` micro-batches of `size` images, with targets drawn or true.

    `rank` and `threshold` estimate how many filters a layer needs, and so the maximum redundancy. `protected` is the
    threshold of the floors that no layer is pruned below: a target above the redundancy that it leaves is refused. A step
    removes up to `share` of a layer; it is undone if the network then agrees with the reference less than it best did, by
    more than `tolerance`. Gram matrices are taken anew every `refresh` steps.
    """

    batches: int = 64
    size: int = 32
    drawn: Literal["drawn", "labels"] = "drawn"
    rank: Rank = "energy"
    threshold: float = 0.01
    protected: float = 0.2
    share: float = 0.125
    tolerance: float = 0.01
    compensation: bool = True
    refresh: int = 20


def unsupported(task: Task, config: Config) -> str | None:
    """Any convolutional network will do; what is refused is a configuration that can't be followed."""
    if config.where == "branches":
        return "where has to be inner or streams: a branch of a stream has no readers of its own"
    if config.rank not in ("energy", "relative", "entropy") or config.drawn not in ("drawn", "labels"):
        return "rank has to be energy, relative or entropy, and drawn has to be drawn or labels"
    if not (0 < config.threshold < 1 and 0 < config.protected < 1 and 0 < config.share <= 1 and config.tolerance > 0):
        return "threshold and protected have to lie between 0 and 1, share in (0, 1], tolerance above 0"
    if min(config.batches, config.size, config.refresh) < 1:
        return "batches, size and refresh have to be at least 1"
    return refused(config)


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point per share of MACs removed, its notes a table of layers; raises MethodError for a target that is too high."""

    def measured(network: nn.Module, prunable: Prunable) -> dict[str, Tensor]:
        return grams(network, prunable.groups, task, run, config.batches, config.size, config.drawn)

    first = analyse(task, config.where)
    known = measured(task.reference(), first)
    needed = {name: numerical_rank(gram, config.rank, config.threshold) for name, gram in known.items()}
    floors = {name: numerical_rank(gram, "energy", config.protected) for name, gram in known.items()}
    dense_macs, least = first.macs(first.all_kept()), first.cost.macs(floors)
    if least > first.goal(config.targets[-1]):
        msg = (
            f"{config.targets[-1]:.0%} of the MACs of {task.network} are to be removed, but its gradient matrices allow "
            f"{1 - least / dense_macs:.1%}: ask for less, or raise `protected`"
        )
        raise MethodError(msg)
    estimate = estimated(task.reference(), first, needed)

    def choose(dense: nn.Module, prunable: Prunable, keep: Keep, goal: float) -> tuple[Keep, Mapping[str, Json]]:
        start, passes = time.perf_counter(), 0

        def again(network: nn.Module) -> dict[str, Tensor]:
            nonlocal passes
            passes += 1
            return measured(network, prunable)

        untouched = all(mask.all() for mask in keep.values())
        found = known if untouched else again(dense)
        traces = {name: float(gram.trace()) for name, gram in found.items()}
        state = State(dense, dict(keep), found, config.tolerance, set(), traces)
        before = correct_predictions(dense.to(run.device), task.validation, task)
        dense.to("cpu")
        prune(state, prunable, goal, floors, config.share, config.compensation, again, config.refresh, run.device)
        dense.load_state_dict(state.dense.state_dict())
        after = correct_predictions(prunable.narrow(dense, state.keep)[0].to(run.device), task.validation, task)
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
            "agreement": round(state.agreement, 4),
            "validation_before": round(before / len(task.validation), 4),
            "validation_pruned": round(after / len(task.validation), 4),
            "gradient_passes": passes + untouched,
            "seconds": round(time.perf_counter() - start, 1),
        }

    return curve(task, config, run, choose)


def estimated(reference: nn.Module, prunable: Prunable, needed: Mapping[str, int]) -> dict[str, Json]:
    """The maximum redundancy that the ranks leave: as a share of filters, of parameters and of multiply-accumulates."""
    keep = {group.name: torch.arange(group.size) < needed[group.name] for group in prunable.groups}
    narrow = prunable.narrow(reference, keep)[0]
    sizes = [sum(p.numel() for p in network.parameters()) for network in (narrow, reference)]
    return {
        "redundancy": round(redundancy(needed, prunable.groups), 4),
        "redundancy_params": round(1 - sizes[0] / sizes[1], 4),
        "redundancy_macs": round(1 - prunable.cost.macs(needed) / prunable.macs(prunable.all_kept()), 4),
    }
