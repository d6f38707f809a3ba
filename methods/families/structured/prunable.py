"""A task's network as structured methods see it: groups of channels, their cost, and surgery for any choice of channels."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.errors import MethodError
from benchmarks.seeds import generator
from methods.families.structured import blocks, channels, cost, surgery
from methods.families.structured.channels import Group, Where, counts
from methods.families.structured.cost import Cost
from methods.families.structured.surgery import Plan
from methods.interface import Task

Keep = Mapping[str, Tensor]  # group name -> mask, True for kept channels


@dataclass(frozen=True, eq=False)
class Prunable:
    """Groups of coupled channels of a task's network, their cost, and how to remove them.

    `blocks` are the removable residual blocks with their groups: a block is removed if none of its channels is kept.
    """

    task: Task
    groups: list[Group]
    cost: Cost
    blocks: Mapping[str, Sequence[str]] = field(default_factory=dict)

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

    Raises MethodError if there are none, or if removing channels does not give the same output as setting them to zero:
    the network then has an operator through which channels can't be followed.
    """
    network = task.reference()
    example = task.prepare(task.calibration(1).inputs)
    groups = channels.find(network, example, where)
    if not groups:
        msg = f"{task.network} has no channels to prune: no convolution whose output only other layers read"
        raise MethodError(msg)
    measured = cost.measure(network, groups, example)
    prunable = Prunable(task, groups, measured, blocks.find(network, groups, example) if whole else {})
    if whole and not prunable.blocks:
        msg = (
            f"{task.network} has no residual block that can be removed: no identity shortcut bypasses a prunable layer"
        )
        raise MethodError(msg)
    _probe(prunable, network, example)
    return prunable


@torch.no_grad()
def _probe(prunable: Prunable, network: nn.Module, example: Tensor) -> None:
    """Remove half of each inner group and branch, and compare with the dense network with the same channels set to zero."""
    draws, network = generator("probe of channels"), copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # every channel is active, also after ReLU
            module.bias.copy_(2 * module.weight.abs() + 0.1)
    for _ in range(3):  # a single draw could be invariant under an operator
        keep = prunable.all_kept()
        for group in prunable.groups:
            if group.kind != "stream" and group.size > 1:
                keep[group.name] = torch.randperm(group.size, generator=draws) < group.size // 2
        try:
            narrow, plan = prunable.narrow(network, keep)
            wide = prunable.widen(narrow, plan)  # in fp64, rounding can't explain a difference
            cut, zeroed = (each.double()(example.double()) for each in (narrow, wide))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
        else:
            if torch.allclose(cut, zeroed, rtol=0, atol=1e-8 * float(zeroed.abs().max())):
                continue
            reason = "the narrower network computes something else"
        msg = (
            f"channels can't be followed through {prunable.task.network} ({reason}): it has an operator that mixes them"
        )
        raise MethodError(msg)
