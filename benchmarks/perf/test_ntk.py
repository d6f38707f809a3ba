"""Features of a compressed network: exact products in int8 against dense fp32, and ternary weights drawn in compiled code."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from methods.ntk import weights
from methods.ntk.activations import PiecewiseConstant
from methods.ntk.matching import replacements
from methods.ntk.networks import ternary_features

ITEMS, INPUTS, WIDTH = 500, 784, 3000


def seconds(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@torch.no_grad()
def test_features_of_three_layers() -> None:
    generator = np.random.default_rng(0)
    sides = [(WIDTH, INPUTS), (WIDTH, WIDTH), (WIDTH, WIDTH)]
    codes = [torch.from_numpy(generator.integers(-1, 2, side, np.int8)) for side in sides]
    scale = 1.5**0.5
    dense = [code.float() * scale for code in codes]
    found = [one.steps for one in replacements(3, "four")]
    modules = [PiecewiseConstant(one.intervals, tuple(level * WIDTH**-0.5 for level in one.levels)) for one in found]
    x: torch.Tensor = torch.from_numpy(generator.standard_normal((ITEMS, INPUTS), np.float32)) * INPUTS**-0.5

    def plain() -> torch.Tensor:
        h = x
        for weight, module in zip(dense, modules, strict=True):
            h = module.forward(h @ weight.T)
        return h

    fast = ternary_features(codes, scale, modules)
    assert (fast(x) != plain()).float().mean() < 1e-3
    ours, peer = seconds(lambda: fast(x)), seconds(plain)
    inside = (x[:, :1] > 0).to(torch.int8).expand(ITEMS, WIDTH).contiguous()
    product, dense_product = (
        seconds(lambda: weights.product(inside, codes[1])),
        seconds(lambda: inside.float() @ dense[1].T),
    )
    print(f"\nfeatures of {ITEMS} items, {WIDTH} × 3: {ours:.2f} s; dense fp32 takes {peer / ours:.1f} times as long")
    print(f"one product: {product:.3f} s; dense fp32 takes {dense_product / product:.1f} times as long")


def test_ternary_weights_are_drawn() -> None:
    size = 2_000_000
    count = weights.signs(size, 0.5)

    def naive() -> np.ndarray:
        found = np.zeros(size, np.int8)
        found[:count], found[count : 2 * count] = 1, -1
        np.random.default_rng(0).shuffle(found)
        return found

    ours, peer = seconds(lambda: weights.ternary(size, count, count, 1)), seconds(naive)
    print(f"\n{size:,} ternary weights: {ours:.3f} s; numpy's shuffle takes {peer / ours:.1f} times as long")
