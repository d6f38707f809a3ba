"""The closed form of a layer's coefficients against the official code's regression by Adam, in the same run.

pytest benchmarks/perf/test_approxconv.py -s
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch

from methods.approxconv.bases import approximated, functions

STAGES = ((200, 0.1), (200, 0.01), (200, 0.001))  # steps, learning rate


def by_adam(kernel: torch.Tensor, kind: Any, order: int) -> torch.Tensor:
    """The kernel after 600 steps; each of the three learning rates has a new optimiser."""
    basis = torch.from_numpy(functions(kind, order, kernel.shape[-1]).T.astype(np.float32))
    start = torch.randn(*kernel.shape[:2], order, order, generator=torch.Generator().manual_seed(0))
    coefficients = start.requires_grad_()
    for steps, rate in STAGES:
        optimiser = torch.optim.Adam([coefficients], rate)
        for _ in range(steps):
            optimiser.zero_grad()
            (basis @ coefficients @ basis.T - kernel).square().mean().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return (basis @ coefficients @ basis.T).detach()


@pytest.mark.parametrize(("shape", "order"), [((64, 64, 3, 3), 2), ((64, 3, 7, 7), 6)])
@pytest.mark.parametrize("kind", ["cosine", "chebyshev"])
def test_closed_form_against_600_steps(kind: Any, shape: tuple[int, ...], order: int) -> None:
    kernel = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.05
    approximated(kernel.numpy(), kind, order)
    start = time.perf_counter()
    best = approximated(kernel.numpy(), kind, order).kernel()
    fast_s = time.perf_counter() - start
    start = time.perf_counter()
    found = by_adam(kernel, kind, order)
    slow_s = time.perf_counter() - start
    size = kernel.square().sum()
    errors = [float(((torch.as_tensor(k) - kernel).square().sum() / size).sqrt()) for k in (best, found)]
    print(
        f"\n{kind} {order} of {shape}: closed form {fast_s * 1e3:.2f} ms, error {errors[0]:.4f}; "
        f"Adam {slow_s:.2f} s, error {errors[1]:.4f}; {slow_s / fast_s:.0f} times faster"
    )
    assert errors[0] <= errors[1] + 1e-6
