"""Collaborative compression: scores in closed form against one SVD per candidate.

    pytest benchmarks/perf/test_cc.py -s

A 3×3 convolution of 64 filters, as in the last stage of ResNet-56, with random weights and gradients.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from methods.cc import rates
from methods.cc.scores import scores
from methods.cc.units import Convolution, State

FILTERS, CHANNELS, AREA = 64, 64, 9


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def layer() -> Convolution:
    draws = torch.Generator().manual_seed(0)
    weight, gradient = (torch.randn(FILTERS, CHANNELS * AREA, generator=draws, dtype=torch.float64) for _ in range(2))
    return Convolution(weight, gradient.square(), CHANNELS, 64)


def one_svd_each(conv: Convolution) -> list[float]:
    """E of each candidate, as the official code computes it for the whole layer."""
    squares, weight = conv.squares, conv.weight
    others = conv.channels + conv.rank - 1
    found = []

    def expected(cut: torch.Tensor, u: torch.Tensor, s: torch.Tensor, v: torch.Tensor) -> float:
        apart = cut - weight
        effects = (squares * cut.square()).sum() + (squares * ((u.square() * s.square()) @ v.square())).sum()
        return float((squares * apart.square()).sum() + (effects - 4 * (squares * apart * cut).sum()) / others)

    for channel in range(conv.channels):
        cut = weight.clone()
        cut[:, channel * AREA : (channel + 1) * AREA] = 0
        found.append(expected(cut, *torch.linalg.svd(cut, full_matrices=False)))
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    for place in range(conv.rank):
        left = s.clone()
        left[place] = 0
        found.append(expected((u * left) @ v, u, left, v))
    return found


def test_scores() -> None:
    conv = layer()
    state = State(conv)
    scores(state)
    exact, frozen = seconds(lambda: scores(state)), seconds(lambda: scores(state, exact=False))
    slow = seconds(lambda: one_svd_each(conv))
    found = scores(state)
    closed = torch.cat([found.channels[1], found.components[1]])
    assert torch.allclose(closed, torch.tensor(one_svd_each(conv), dtype=torch.float64))
    print(
        f"\nscores of {len(closed)} units: {exact * 1e3:.0f} ms, {slow / exact:.1f} times faster than one SVD per candidate; "
        f"with frozen components {frozen * 1e3:.1f} ms, {slow / frozen:.0f} times"
    )


def test_loss_curve() -> None:
    """All removals of a layer, against an SVD before each component."""
    conv = layer()

    def with_svds() -> None:
        for _ in range(conv.rank):
            torch.linalg.svd(conv.weight, full_matrices=False)

    ours, alone = seconds(lambda: rates.points(conv)), seconds(with_svds)
    print(f"\nloss curve of a layer: {ours * 1e3:.0f} ms, {alone / ours:.1f} times faster than its SVDs alone")
