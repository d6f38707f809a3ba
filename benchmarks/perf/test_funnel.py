"""The funnel penalty of ResNet-18's 7,680 gates and its proximal step, against a loop over gates as in the author's code.

pytest benchmarks/perf/test_funnel.py -s
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.perf.test_structured import seconds
from methods.funnel.penalty import funnel, prox

GATES, WIDTH = 7680, 0.01


def loop(gates: Tensor) -> Tensor:
    """The sum of funnels, one gate after the other."""
    total = torch.zeros(())
    for gate in gates:
        total = total + gate.abs() / (WIDTH + gate.abs())
    return total


def test_penalty_of_all_gates() -> None:
    """The penalty with its gradient, and the proximal step that replaces both."""
    gates = torch.randn(GATES, generator=torch.Generator().manual_seed(0), requires_grad=True)
    width = torch.full((GATES,), WIDTH)
    slow = seconds(lambda: loop(gates).backward())
    summed = funnel(gates, width).sum()
    assert torch.allclose(loop(gates), summed)
    repeats = 100
    fast = seconds(lambda: [funnel(gates, width).sum().backward() for _ in range(repeats)]) / repeats
    values, tau = gates.detach(), torch.full((GATES,), 1e-4)
    exact = seconds(lambda: [prox(values, tau, width) for _ in range(repeats)]) / repeats
    print(
        f"\nfunnel penalty of {GATES} gates with gradient: loop {1e3 * slow:.0f} ms, ours {1e3 * fast:.2f} ms, "
        f"{slow / fast:.0f} times faster; proximal step {1e3 * exact:.2f} ms, {slow / exact:.0f} times faster"
    )
