"""A task's network as structured methods see it: groups of channels, their cost, and surgery for any choice of channels."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from benchmarks.errors import MethodError, first_line
from benchmarks.seeds import generator
from benchmarks.training.batchnorm import foldable
from methods.families import storage
from methods.families.structured import blocks, channels, cost, surgery
from methods.families.structured.channels import Group, Where, counts
from methods.families.structured.cost import Cost
from methods.families.structured.fixed import check_hooks, obstacles
from methods.families.structured.shortcuts import is_shortcut
from methods.families.structured.surgery import Plan
from methods.interface import Task

Keep = Mapping[str, Tensor]  # group name -> mask, True for kept channels


@dataclass(frozen=True, eq=False)
class Prunable:
    """Groups of coupled channels of a task's network, their cost, and how to remove them.

    `blocks` are the removable residual blocks with their groups: a block is removed if none of its channels is kept.
    `whole` are sentences about layers and groups that can't be made narrower.
    """

    task: Task
    groups: list[Group]
    cost: Cost
    blocks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    whole: Sequence[str] = ()

    def all_kept(self) -> dict[str, Tensor]:
        return channels.all_kept(self.groups)

    def macs(self, keep: Keep) -> int:
        return self.cost.macs(counts(keep))

    def goal(self, removed: float) -> float:
        """The MACs that remain after a share is removed; raises MethodError if that is impossible."""
        dense = self.macs(self.all_kept())
        least = self.cost.macs({group.name: 1 for group in self.groups})
        if (1 - removed) * dense < least:
            msg = (
                f"{removed:.0%} of the MACs can't be removed: with one channel left of each group, "
                f"{least / dense:.1%} remain; ask for less or prune more layers"
            )
            raise MethodError(msg)
        return (1 - removed) * dense

    def narrow(self, dense: nn.Module, keep: Keep) -> tuple[nn.Module, Plan]:
        """The network with only the kept channels, in eval mode, and the surgery that made it."""
        plan = surgery.plan(dense, self.groups, keep, self.blocks)
        return plan.slim(dense).realise(self.task, dense), plan

    def widen(self, network: nn.Module, plan: Plan) -> nn.Module:
        """The dense network with the values of a narrower one."""
        return surgery.widen(self.task, network, plan)


def analyse(task: Task, where: Where = "inner", whole: bool = False) -> Prunable:
    """Find the removable channels of a task's reference; with `whole`, also removable residual blocks.

    Groups are left whole if removing some of their channels does not give the same output as setting them to zero: the
    network then has an operator through which these channels can't be followed. Raises MethodError if no group remains.
    """
    storage.check_names(task)
    network = task.reference()
    check_hooks(network)
    example = task.prepare(task.calibration(1).inputs)
    groups = channels.find(network, example, where)
    left = obstacles(network)
    if not groups:
        msg = f"{task.network} has no channels to prune: no convolution whose output only other layers read"
        raise MethodError("; ".join([msg, *left[:3]]))
    measured = cost.measure(network, groups, example)
    prunable = _followed(Prunable(task, groups, measured, whole=left), network, example)
    if whole:
        prunable = replace(prunable, blocks=blocks.find(network, prunable.groups, example))
    if whole and not prunable.blocks:
        msg = (
            f"{task.network} has no residual block that can be removed: no identity shortcut bypasses a prunable layer"
        )
        raise MethodError(msg)
    return prunable


def _followed(prunable: Prunable, network: nn.Module, example: Tensor) -> Prunable:
    """The same without the groups whose channels can't be followed; raises MethodError if none remains."""
    reason = _difference(prunable, prunable.groups, network, example)
    if reason is None:
        return prunable
    alone = {group.name: _difference(prunable, [group], network, example) for group in prunable.groups}
    groups = [group for group in prunable.groups if alone[group.name] is None]
    lost = [name for name, found in alone.items() if found is not None]
    if not groups or _difference(prunable, groups, network, example):
        msg = (
            f"channels can't be followed through {prunable.task.network} ({reason}): it has an operator that mixes them "
            f"after {', '.join((lost or list(alone))[:3])}"
        )
        raise MethodError(msg)
    whole = [f"the channels of {name} can't be followed ({alone[name]})" for name in lost]
    measured = cost.measure(network, groups, example)
    return replace(prunable, groups=groups, cost=measured, whole=[*prunable.whole, *whole])


@torch.no_grad()
def _difference(prunable: Prunable, groups: Sequence[Group], network: nn.Module, example: Tensor) -> str | None:
    """Why the network without half of the channels of `groups` is not the dense one with these channels set to zero.

    None if both give the same output. Streams are not tested if there are shortcuts without parameters: one that bypasses
    a stage adds channels that are zero inside it.
    """
    draws, network = generator("probe of channels"), copy.deepcopy(network)
    streams = not any(map(is_shortcut, network.modules()))
    for module in network.modules():
        if foldable(module):  # every channel is active, also after ReLU
            module.bias.copy_(2 * module.weight.abs() + 0.1)
    for _ in range(3):  # a single draw could be invariant under an operator
        keep = prunable.all_kept()
        for group in groups:
            if (streams or group.kind != "stream") and group.size > 1:
                keep[group.name] = torch.randperm(group.size, generator=draws) < group.size // 2
        try:
            narrow, plan = prunable.narrow(network, keep)
            wide = prunable.widen(narrow, plan)  # in fp64, rounding can't explain a difference
            cut, zeroed = (each.double()(example.double()) for each in (narrow, wide))
        except MethodError:
            raise
        except Exception as error:  # whatever an operator does with fewer channels
            return first_line(error)
        if not torch.allclose(cut, zeroed, rtol=0, atol=1e-8 * float(zeroed.abs().max())):
            return "the narrower network computes something else"
    return None
