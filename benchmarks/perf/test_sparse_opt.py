"""A step of HSPG against the same step as a loop over channels, as in the authors' code, on the convolutions of ResNet-20.

    pytest benchmarks/perf/test_sparse_opt.py -s

Gradients are random. Both compute the same (`tests/test_sparse_opt.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.perf.test_structured import seconds, task
from methods.families.structured import Group, analyse
from methods.sparse_opt.halfspace import HSPG
from methods.sparse_opt.units import flat, units

STEPS = 5


class Loop:
    """HSPG by its definition: the values of a channel are concatenated, tested and changed one channel after the other."""

    def __init__(self, network: nn.Module, groups: list[Group], strength: float, first: int, epsilon: float) -> None:
        self._network, self._groups, self._strength = network, groups, strength
        self._first, self._epsilon = first, epsilon
        self._buffers = {parameter: torch.zeros_like(parameter) for parameter in network.parameters()}
        self._done = 0

    @torch.no_grad()
    def step(self, lr: float, momentum: float = 0.9) -> None:
        for parameter, buffer in self._buffers.items():
            assert parameter.grad is not None
            buffer.mul_(momentum).add_(parameter.grad)
        inside = set()
        for group in self._groups:
            members = [m for m in group.members if m.side in ("out", "depthwise", "norm", "scatter")]
            parameters = [(m, p) for m in members for p in self._network.get_submodule(m.path).parameters()]
            inside |= {parameter for _, parameter in parameters}
            for channel in range(group.size):
                rows = [(p, int(m.entries[m.channels == channel])) for m, p in parameters]
                self._unit([p[row] for p, row in rows], [self._buffers[p][row] for p, row in rows], lr)
        for parameter, buffer in self._buffers.items():
            if parameter not in inside:
                parameter.sub_(lr * buffer)
        self._done += 1

    def _unit(self, values: list[Tensor], buffers: list[Tensor], lr: float) -> None:
        x = torch.cat([value.reshape(-1) for value in values])
        if not x.any() and self._done >= self._first:
            return
        norm = x.norm()
        for value, buffer in zip(values, buffers, strict=True):
            buffer.add_(self._strength * value / (norm + 1e-6))
        hat = x - lr * torch.cat([buffer.reshape(-1) for buffer in buffers])
        if self._done >= self._first and float(hat @ x) < self._epsilon * float(x @ x):
            hat.zero_()
        for value, part in zip(values, hat.split([value.numel() for value in values]), strict=True):
            value.copy_(part.view(value.shape))


def with_gradients(network: nn.Module, seed: int = 0, size: float = 0.01) -> nn.Module:
    draws = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = size * torch.randn(parameter.shape, generator=draws)
    return network


def repeated(step: Callable[[], object]) -> float:
    step()
    return seconds(lambda: [step() for _ in range(STEPS)]) / STEPS


def test_a_step_of_hspg() -> None:
    """In the second stage, all channels still alive; plain SGD on all parameters for comparison."""
    groups = analyse(task(20)).groups
    naive, network, plain = (with_gradients(copy.deepcopy(task(20).reference())) for _ in range(3))
    known = units(network, groups)
    alive = flat(groups, {group.name: torch.ones(group.size) for group in groups})
    params = [{"params": [*network.parameters()], "lr": 1e-3}]
    optimiser = HSPG(params, known, 1e-3, alive, first=0)
    loop = Loop(naive, groups, 1e-3, first=0, epsilon=0.0)
    sgd = torch.optim.SGD(plain.parameters(), lr=1e-3, momentum=0.9)
    slow, ours, bare = repeated(lambda: loop.step(1e-3)), repeated(optimiser.step), repeated(sgd.step)
    print(
        f"\nHSPG on {known.count} channels: loop over channels {1e3 * slow:.1f} ms, ours {1e3 * ours:.2f} ms, "
        f"{slow / ours:.0f} times faster; {ours / bare:.1f} times a step of SGD"
    )
