"""How many channels each group keeps, and which, so that a network's cost does not exceed a goal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from benchmarks.errors import MethodError
from methods.families.structured.channels import Group
from methods.families.structured.prunable import Keep, Prunable
from methods.families.structured.shortcuts import is_shortcut


def shares(
    prunable: Prunable, keep: Keep, goal: float, weights: Mapping[str, float], most: float = 1.0
) -> dict[str, int]:
    """Numbers of kept channels by group: group g loses the share min(γ·weights[g], most), with the least γ that meets `goal`.

    `goal` is in MACs. Channels missing in `keep` are removed already. At least one channel of a group is kept. Groups of
    weight 0 lose channels only if the others are not sufficient. Raises MethodError if even the largest γ leaves too much.
    """
    nothing = 1e-9 * (max(weights.values()) or 1.0)
    removals = []
    for group in prunable.groups:
        gone = group.size - int(keep[group.name].sum())
        weight = group.size * max(weights[group.name], nothing)
        last = min(group.size - 1, math.floor(most * group.size))
        removals += [(lost / weight, group.name) for lost in range(gone + 1, last + 1)]
    removals.sort(key=lambda removal: removal[0])  # stable: of equal ones, the earlier group first
    return remove(prunable, keep, goal, [name for _, name in removals])


def remove(prunable: Prunable, keep: Keep, goal: float, order: list[str]) -> dict[str, int]:
    """Numbers of kept channels by group after removing one channel per entry of `order`, until `goal` is met.

    Raises MethodError if the entries do not suffice.
    """
    start = {name: int(mask.sum()) for name, mask in keep.items()}

    def after(count: int) -> dict[str, int]:
        left = dict(start)
        for name in order[:count]:
            left[name] -= 1
        return left

    low, high = 0, len(order)
    if prunable.cost.macs(after(high)) > goal:
        msg = f"the MACs can't fall to {goal:,.0f}: at the limits of each layer {prunable.cost.macs(after(high)):,} remain"
        raise MethodError(msg)
    while low < high:
        middle = (low + high) // 2
        if prunable.cost.macs(after(middle)) <= goal:
            high = middle
        else:
            low = middle + 1
    return after(high)


def highest(scores: Mapping[str, Tensor], keep: Keep, counts: Mapping[str, int]) -> dict[str, Tensor]:
    """Masks of the given numbers of kept channels with the highest scores; ties keep the first."""
    masks = {}
    for name, kept in keep.items():
        ranked = torch.where(kept, scores[name].cpu().double(), -math.inf).argsort(descending=True, stable=True)
        masks[name] = torch.zeros_like(kept)
        masks[name][ranked[: counts[name]]] = True
    return masks


def writers(network: nn.Module, group: Group) -> dict[str, nn.Module]:
    """The layers that write the channels of a group, by path; shortcuts have no weights and are left out."""
    modules = {member.path: network.get_submodule(member.path) for member in group.side("out", "depthwise")}
    return {path: module for path, module in modules.items() if not is_shortcut(module)}


def by_channel(group: Group, weights: Mapping[str, Tensor]) -> Tensor:
    """The part of the writers' weights (or gradients), by path, that belongs to each channel: (size, d), concatenated."""
    found = []
    for member in group.side("out", "depthwise"):
        if member.path in weights:
            rows = weights[member.path].flatten(1)
            own = torch.empty_like(rows)
            own[member.channels] = rows[member.entries]
            found.append(own)
    return torch.cat(found, 1)


def filters(network: nn.Module, group: Group) -> Tensor:
    """The weights that write each channel of a group: (size, d)."""
    return by_channel(group, {p: m.get_parameter("weight").detach() for p, m in writers(network, group).items()})


def same_share(prunable: Prunable, keep: Keep, goal: float, scores: Callable[[Group], Tensor]) -> dict[str, Tensor]:
    """Masks that remove an equal share of each group, lowest `scores` first, to meet `goal`."""
    counts = shares(prunable, keep, goal, {group.name: 1.0 for group in prunable.groups})
    return highest({group.name: scores(group) for group in prunable.groups}, keep, counts)


@torch.no_grad()
def zero(network: nn.Module, group: Group, removed: Tensor) -> None:
    """Set filters and biases that write the removed channels (mask) to zero, in place."""
    modules = writers(network, group)
    for member in group.side("out", "depthwise"):
        for parameter in modules[member.path].parameters() if member.path in modules else ():
            parameter[member.entries[removed[member.channels]]] = 0
