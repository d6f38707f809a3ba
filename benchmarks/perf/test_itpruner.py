"""ITPruner: the nHSIC matrix of ResNet-56's blocks against the double loop of the official code.

    pytest benchmarks/perf/test_itpruner.py -s

Activations are random, with the shapes of 100 CIFAR images.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from methods.itpruner import importance, published, solve

SHAPES = [(16, 32, 32)] * 9 + [(32, 16, 16)] * 9 + [(64, 8, 8)] * 9
IMAGES = 100


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def test_nhsic() -> None:
    """One Gram matrix per layer and one product, against two Gram matrices for each pair of layers."""
    draws = torch.Generator().manual_seed(0)
    features = [torch.randn(IMAGES, *shape, generator=draws) for shape in SHAPES]
    found: dict[str, object] = {}

    def ours() -> None:
        found["ours"] = importance.nhsic([importance.gram(each) for each in features])

    def centred(gram: torch.Tensor) -> torch.Tensor:
        means = gram.mean(0) - gram.mean() / 2
        return gram - means[:, None] - means[None]

    def double_loop() -> None:
        flat = [each.flatten(1) for each in features]
        matrix = np.zeros((len(flat), len(flat)))
        for i, first in enumerate(flat):
            for j, second in enumerate(flat):
                one, other = centred(first @ first.T), centred(second @ second.T)
                matrix[i, j] = float((one * other).sum() / (one.norm() * other.norm()))
        found["loop"] = matrix

    ours()
    fast, slow = seconds(ours), seconds(double_loop)
    assert np.allclose(np.asarray(found["ours"]), np.asarray(found["loop"]), atol=1e-4)
    print(f"\nnHSIC of 27 layers: {fast:.2f} s, {slow / fast:.0f} times faster than the double loop")


def test_solve() -> None:
    """SLSQP with exact derivatives of a scaled problem, against differences of a problem in multiply-accumulates."""
    cost = published.resnet50()
    alpha = np.linspace(0.5, 1, len(cost.full))
    times = {
        how: seconds(lambda how=how: solve.shares(cost, 2e9, alpha, how, 0.1))  # type: ignore[misc]
        for how in ("published", "scaled")
    }
    print(
        f"\nwidths of ResNet-50: scaled, from three starts, {times['scaled']:.2f} s; published {times['published']:.2f} s"
    )
