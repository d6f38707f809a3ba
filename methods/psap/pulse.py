"""Gradient pulses: how the loss depends on filters that were just set to zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from methods.families.structured import Group
from methods.families.structured.allocation import by_channel
from methods.families.structured.channels import Member
from methods.interface import Split, Task

Statistic: TypeAlias = Literal["gate", "taylor", "raw"]
Weights: TypeAlias = Mapping[str, Tensor]  # of the layers that write channels, by path


def pulses(
    network: nn.Module,
    groups: Sequence[Group],
    zeroed: Mapping[str, Tensor],
    old: Weights,
    task: Task,
    batches: Sequence[Split],
    statistic: Statistic,
    train_mode: bool = False,
) -> dict[str, Tensor]:
    """The statistic of each zero filter: (size,) by group, 0 for filters in use. Nothing is trained.

    "raw" is the mean norm of the filter's gradient; "taylor" |⟨mean gradient, old filter⟩|, the first-order change of the
    loss if it were restored; "gate" the same for a closed gate on its channel, with the old filter in place.
    In `train_mode`, a zero filter has no variance, and BatchNorm multiplies its gradient by a factor of hundreds: no
    statistic is then comparable with that of a filter in use.
    """
    was_training, buffers = network.training, {name: b.clone() for name, b in network.named_buffers()}
    network.train(train_mode)
    sums = {group.name: torch.zeros(group.size) for group in groups}
    inside = _gates if statistic == "gate" else _weights
    with torch.enable_grad(), inside(network, groups, zeroed, old) as inputs:
        for split in batches:
            loss = task.loss(network(task.prepare(split.inputs)), split.targets)
            gradients = dict(zip(inputs, torch.autograd.grad(loss, list(inputs.values())), strict=True))
            for group in groups:
                sums[group.name] += _values(group, gradients, old, statistic).cpu()
    for name, buffer in network.named_buffers():  # running means, in train mode
        buffer.copy_(buffers[name])
    network.train(was_training)
    return {name: torch.where(zeroed[name], total.abs() / len(batches), 0.0) for name, total in sums.items()}


def _values(group: Group, gradients: Weights, old: Weights, statistic: Statistic) -> Tensor:
    """The statistic of one batch, signed except for "raw"."""
    if statistic == "gate":
        return gradients[group.name]
    rows = by_channel(group, gradients)
    return rows.norm(dim=1) if statistic == "raw" else (rows * by_channel(group, old)).sum(1)


@contextmanager
def _weights(network: nn.Module, groups: Sequence[Group], zeroed: Weights, old: Weights) -> Iterator[dict[str, Tensor]]:
    """The weights that write channels, with their zeros."""
    yield {path: network.get_submodule(path).get_parameter("weight") for path in old}


@contextmanager
def _gates(network: nn.Module, groups: Sequence[Group], zeroed: Weights, old: Weights) -> Iterator[dict[str, Tensor]]:
    """A context with gates on the channels; zero filters have closed gates and their old values.

    Gates are placed after the activation, because ReLU has zero slope at zero; those of a branch after its BatchNorm.
    """
    parameters = {path: network.get_submodule(path).get_parameter("weight") for path in old}
    zeros = {path: parameter.detach().clone() for path, parameter in parameters.items()}
    some = next(iter(parameters.values()))
    gates = {group.name: (~zeroed[group.name]).to(some).requires_grad_() for group in groups}
    hooks = []
    for group in groups:
        gate, readers, branches = gates[group.name], group.side("in"), group.side("scatter")
        hooks += [network.get_submodule(m.path).register_forward_pre_hook(_gated_input(gate, m)) for m in readers]
        hooks += [network.get_submodule(m.path).register_forward_hook(_gated_output(gate, m)) for m in branches]
    try:
        with torch.no_grad():
            for path, parameter in parameters.items():
                parameter.copy_(old[path])
        yield gates
    finally:
        with torch.no_grad():
            for path, parameter in parameters.items():
                parameter.copy_(zeros[path])
        for hook in hooks:
            hook.remove()


def _gated_input(gate: Tensor, member: Member) -> Callable[[nn.Module, tuple[Tensor]], Tensor]:
    return lambda _module, inputs: _gated(inputs[0], gate, member)


def _gated_output(gate: Tensor, member: Member) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
    return lambda _module, _inputs, output: _gated(output, gate, member)


def _gated(x: Tensor, gate: Tensor, member: Member) -> Tensor:
    """Multiply the channels of x (N, C, …) by their gates; their order in a layer may differ from that in the group."""
    entries = torch.zeros(len(member.entries)).to(gate).index_put((member.entries,), gate[member.channels])
    return x * entries.view(1, -1, *(1,) * (x.ndim - 2))
