"""A task's network as structured methods see it: its groups of channels, their cost, and surgery for any choice of them."""

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

Keep = Mapping[str, Tensor]  # by the name of each group: True for the channels that stay


@dataclass(frozen=True, eq=False)
class Prunable:
    """Groups of coupled channels of a task's network, what they cost, and how to cut them.

    `blocks` are the residual blocks that may go, each with its groups: one goes as a whole if nothing of them is kept.
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
        """MACs that may be left where a share is to be removed from the dense network's; raises MethodError if none can."""
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
        """The network with the kept channels alone, in eval mode, and how it was cut."""
        plan = surgery.plan(dense, self.groups, keep, self.blocks)
        return plan.slim(dense).realise(self.task, dense), plan

    def widen(self, network: nn.Module, plan: Plan) -> nn.Module:
        """The dense network with the values of a narrower one."""
        return surgery.widen(self.task, network, plan)


def analyse(task: Task, where: Where = "inner", whole: bool = False) -> Prunable:
    """Find what can be pruned of a task's reference; `whole`: residual blocks may go, too.

    Raises MethodError if that is nothing, or if removed channels turn out to reach the output: the network has an operator
    through which channels can't be followed.
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
        msg = f"{task.network} has no residual block that could go: no shortcut leads past layers of its own"
        raise MethodError(msg)
    _probe(prunable, network, example)
    return prunable


@torch.no_grad()
def _probe(prunable: Prunable, network: nn.Module, example: Tensor) -> None:
    """Cut half of each inner group and branch, and compare with the same channels set to zero in the dense network."""
    draws, network = generator("probe of channels"), copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # behind ReLU, too, every channel says something
            module.bias.copy_(2 * module.weight.abs() + 0.1)
    for _ in range(3):  # one draw may be symmetric to what an operator does
        keep = prunable.all_kept()
        for group in prunable.groups:
            if group.kind != "stream" and group.size > 1:
                keep[group.name] = torch.randperm(group.size, generator=draws) < group.size // 2
        try:
            narrow, plan = prunable.narrow(network, keep)
            wide = prunable.widen(narrow, plan)  # in fp64 a difference that rounding can't make shows
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
