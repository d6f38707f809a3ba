"""The shared quantiser in one function against the offsets one after the other, and the cost against a loop over layers.

pytest benchmarks/perf/test_sbs.py -s
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import tasks
from benchmarks.perf.test_structured import seconds
from methods import sbs
from methods.sbs.config import Config
from methods.sbs.gates import Shared, gate, residuals


def rounded(x: Tensor, step: float) -> Tensor:
    return x + ((x / step).round() * step - x).detach()


def written(z: Tensor, thresholds: Tensor) -> Tensor:
    """The sum of offsets as the equations say, each kept for the backward pass."""
    two = rounded(z, 1 / 3)
    four = rounded(z - two, 1 / 15)
    eight = rounded(z - two - four, 1 / 255)
    g4, g8 = (gate(r.detach().abs().mean(), t) for r, t in ((z - two, thresholds[0]), (z - two - four, thresholds[1])))
    return two + g4 * (four + g8 * eight)


def fused(z: Tensor, thresholds: Tensor, clip: Tensor) -> Tensor:
    found: Tensor = Shared.apply(z, clip, gate(residuals(z), thresholds), False)  # type: ignore[no-untyped-call]
    return found


def kept(run: Callable[[], Tensor]) -> float:
    """The tensors that are kept for the backward pass, in MiB."""
    found: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        found[t.data_ptr()] = t.numel() * t.element_size()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        result = run()
    assert result.requires_grad
    return sum(found.values()) / 2**20


def test_shared_quantiser() -> None:
    """Forward and backward for the inputs of one layer of ResNet-20 with a batch of 128, and what is kept in between."""
    z = torch.rand(128, 16, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    thresholds, clip = torch.zeros(2, requires_grad=True), torch.ones(1, requires_grad=True)
    apart = (written(z, thresholds) - fused(z, thresholds, clip)).abs() > 1e-6  # next to half of a step, fp32 decides
    assert apart.float().mean() < 1e-4

    sizes = [kept(lambda: written(z, thresholds)), kept(lambda: fused(z, thresholds, clip))]
    slow = seconds(lambda: torch.autograd.grad(written(z, thresholds).sum(), z))
    fast = seconds(lambda: torch.autograd.grad(fused(z, thresholds, clip).sum(), z))
    print(
        f"\nquantiser with gates: offsets {1e3 * slow:.0f} ms and {sizes[0]:.0f} MiB kept, ours {1e3 * fast:.0f} ms and "
        f"{sizes[1]:.0f} MiB, {slow / fast:.1f} times faster"
    )


def test_bit_operations_of_a_step() -> None:
    """With their gradient, as in each step of the search, against a loop over layers."""
    task = tasks.load("digits", "digits_resnet")
    network, operations = sbs._start(task, Config())
    network.train()(task.prepare(task.train.inputs[:8]))
    layers = list(network.layers().values())

    def loop() -> Tensor:
        units, places, *_ = operations._constants
        channels, total = operations.channels(), torch.zeros((), dtype=torch.float64)
        for n, layer in enumerate(layers):
            sides = [torch.tensor(8.0, dtype=torch.float64) for _ in range(2)]
            for side, which in enumerate((layer.weights, layer.inputs)):
                if which is not None and which.thresholds is not None:
                    g = which.gates.double() if side == 0 else which.gates.detach().double()
                    sides[side] = 2 + g[0] * (2 + 4 * g[1])
            total = total + units[n] * channels[places[n, 0]] * channels[places[n, 1]] * sides[0] * sides[1]
        return total

    assert torch.allclose(loop(), operations.total("weights"))
    chosen = network.thresholds()["weights"]
    slow = seconds(lambda: torch.autograd.grad(loop(), chosen, retain_graph=True))
    fast = seconds(lambda: torch.autograd.grad(operations.total("weights"), chosen, retain_graph=True))
    print(
        f"\nbit operations with gradient: loop {1e3 * slow:.1f} ms, ours {1e3 * fast:.1f} ms, {slow / fast:.1f} times faster"
    )
